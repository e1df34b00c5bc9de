"""What happened in a repository, through GitPython. No text of a user reaches a git option here."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pygit2

from heddle_kit.git.messages import parse_trailers
from heddle_kit.git.port import CommitRecord, GitFault, GitMissing, Identity

if TYPE_CHECKING:
    from git import Commit, Repo

_COMMIT_ID = re.compile(r"^[0-9a-f]{40}$")

# git reads no configuration but the repository's own, asks nobody for a password and runs no helper.
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file",
    "GIT_OPTIONAL_LOCKS": "0",
}


def read_history(path: Path, tip: str, after: str | None, only: str | None, limit: int) -> list[CommitRecord]:
    """Commits from `tip` back, newest first, without `after` and its ancestors."""
    for commit_id in (tip, after or tip):
        if not _COMMIT_ID.match(commit_id):
            raise GitFault(f"{commit_id!r} is not a commit id")
    repo = _open(path)
    from git import GitCommandError

    try:
        revisions = f"{after}..{tip}" if after else tip
        commits = repo.iter_commits(revisions, paths=only or "", max_count=limit, topo_order=True)
        return [_record(commit) for commit in commits]
    except (GitCommandError, ValueError, OSError) as fault:
        raise GitFault("the history cannot be read: a commit is missing or damaged") from fault
    finally:
        repo.close()


def changed_paths(repo: pygit2.Repository, old: str, new: str) -> list[str]:
    """Paths that differ between two commits."""
    try:
        diff = repo.diff(old, new)
    except (KeyError, ValueError, pygit2.GitError) as fault:
        raise GitFault(f"{old!r} is not a commit of this project") from fault
    return sorted({side.path for delta in diff.deltas for side in (delta.old_file, delta.new_file)})


def _open(path: Path) -> Repo:
    # GitPython looks for the git program when it is imported and would raise, or print, without one.
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import git

    repo = git.Repo(path)
    repo.git.update_environment(**_ENVIRONMENT, HOME=str(path))
    repo.git.set_persistent_git_options(c=[f"core.hooksPath={os.devnull}", "core.fsmonitor=false"])
    try:
        repo.git.version()
    except git.GitCommandNotFound as fault:
        raise GitMissing(GitMissing.__doc__) from fault
    return repo


def _record(commit: Commit) -> CommitRecord:
    message = commit.message if isinstance(commit.message, str) else commit.message.decode("utf-8", "replace")
    parent = commit.parents[0] if commit.parents else None
    return CommitRecord(
        commit_id=commit.hexsha,
        parent_id=parent.hexsha if parent else None,
        author=Identity(name=commit.author.name or "unknown", email=commit.author.email or "unknown"),
        at=commit.authored_datetime,
        message=message,
        trailers=parse_trailers(message),
        changed_paths=sorted(str(path) for path in commit.stats.files),
    )
