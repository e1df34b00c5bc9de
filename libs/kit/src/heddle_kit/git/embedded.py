"""Bare repositories on the local disk, through libgit2.

A commit is made of objects first and named by the branch last, so a process that dies in between
leaves the old tip and some unreachable objects, which `git gc` removes. No working tree exists, no
hook or filter runs, and the repository's configuration is written by nobody but this module.
All work is blocking and runs in a thread.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pygit2
from pygit2.enums import FileMode

from heddle_kit.git import messages
from heddle_kit.git.history import changed_paths, read_history
from heddle_kit.git.paths import check_path
from heddle_kit.git.port import (
    BadPath,
    CommitRecord,
    Conflict,
    GitFault,
    GitTooLarge,
    Identity,
    Locked,
    NewCommit,
    Prepared,
)

BRANCH = "refs/heads/main"
SERVICE = Identity(name="Heddle", email="heddle@users.invalid")
MAX_FILE_BYTES = 5 * 1024 * 1024
MAX_FILES = 1000
LOCK_PATIENCE_SECONDS = 2.0
COMMIT_ATTEMPTS = 60
_PLAIN_FILES = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)

CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tlogAllRefUpdates = true
\tfsync = committed
\thooksPath = /dev/null
\tsymlinks = false
[gc]
\tauto = 0
[receive]
\tdenyNonFastForwards = true
"""
SKELETON: dict[str, bytes | None] = {
    ".gitignore": b"__pycache__/\n*.py[cod]\n.airflow/\n",
    "README.md": b"Airflow DAGs of this project are in `dags/`, one file each.\n",
}

# Objects must be on disk before the branch names them, or a power failure loses the commit.
pygit2.settings.enable_fsync_gitdir(True)


class LocalProjects:
    """Repositories below `<data>/projects`, one folder per project."""

    def __init__(self, data: Path) -> None:
        self._root = data / "projects"

    async def open(self, project_id: UUID) -> LocalRepository:
        return await asyncio.to_thread(self._open, project_id)

    def _open(self, project_id: UUID) -> LocalRepository:
        path = self._root / f"{project_id}.git"
        try:
            if not path.is_dir():
                self._create(path)
            return LocalRepository(path)
        except (pygit2.GitError, OSError) as fault:
            raise GitFault(f"the repository of project {project_id} cannot be opened: {reason(fault)}") from fault

    def _create(self, path: Path) -> None:
        """Make it under another name and rename it: it exists complete or not at all."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = Path(tempfile.mkdtemp(prefix=".new-", dir=self._root))
        try:
            repo = pygit2.init_repository(str(draft), bare=True, initial_head="main")
            (draft / "config").write_text(CONFIG)
            shutil.rmtree(draft / "hooks", ignore_errors=True)
            tree = _tree_with(repo, None, SKELETON)
            # A fixed moment: two processes that race to create a project make the same first commit.
            who = pygit2.Signature(SERVICE.name, SERVICE.email, 0, 0)
            repo.create_commit(BRANCH, who, who, "An empty project\n", tree, [])
            repo.free()
            try:
                draft.rename(path)
            except OSError:
                if not path.is_dir():
                    raise
            _sync_folder(self._root)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


class LocalRepository:
    """One bare repository. Each call opens its own handle: cheap, and nothing is shared between threads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        return self._path

    async def tip(self) -> str:
        return await asyncio.to_thread(self._tip)

    async def read(self, path: str, commit_id: str | None = None) -> bytes | None:
        return await asyncio.to_thread(self._read, path, commit_id)

    async def list_files(self, folder: str, commit_id: str | None = None) -> list[str]:
        return await asyncio.to_thread(self._list_files, folder, commit_id)

    async def prepare(self, change: NewCommit, *, parent: str) -> Prepared:
        return await asyncio.to_thread(self._prepare, change, parent)

    async def move(self, *, expected: str, target: str) -> None:
        await asyncio.to_thread(self._move, expected, target)

    async def commit(self, change: NewCommit) -> str:
        return await asyncio.to_thread(self._commit, change)

    async def contains(self, commit_id: str, *, within: str) -> bool:
        return await asyncio.to_thread(self._contains, commit_id, within)

    async def history(
        self, *, after: str | None = None, path: str | None = None, limit: int = 1000
    ) -> list[CommitRecord]:
        if path is not None:
            check_path(path)

        def read() -> list[CommitRecord]:
            return read_history(self._path, self._tip(), after, path, limit)

        return await asyncio.to_thread(read)

    def _repo(self) -> pygit2.Repository:
        try:
            return pygit2.Repository(str(self._path))
        except pygit2.GitError as fault:
            raise GitFault(f"the repository {self._path.name} cannot be read: {reason(fault)}") from fault

    def _tip(self) -> str:
        try:
            return str(self._repo().lookup_reference(BRANCH).target)
        except (KeyError, pygit2.GitError) as fault:
            raise GitFault(f"the repository {self._path.name} has no readable branch main") from fault

    def _tree(self, repo: pygit2.Repository, commit_id: str | None) -> pygit2.Tree:
        try:
            return repo[commit_id or self._tip()].peel(pygit2.Commit).tree
        except (KeyError, ValueError, pygit2.GitError) as fault:
            raise GitFault(f"there is no commit {commit_id}") from fault

    def _read(self, path: str, commit_id: str | None) -> bytes | None:
        check_path(path)
        repo = self._repo()
        try:
            entry = self._tree(repo, commit_id)[path]
        except KeyError:
            return None
        # Links and submodules may come from another git client; they are neither followed nor served.
        if entry.filemode not in _PLAIN_FILES:
            raise BadPath(f"{path!r} is not a plain file")
        return bytes(repo[entry.id].peel(pygit2.Blob).data)

    def _list_files(self, folder: str, commit_id: str | None) -> list[str]:
        repo = self._repo()
        try:
            top = self._tree(repo, commit_id)[folder]
        except KeyError:
            return []
        found: list[str] = []
        pending: list[tuple[str, pygit2.Object]] = [(folder, top)]
        while pending:
            path, entry = pending.pop()
            if isinstance(entry, pygit2.Tree):
                pending += [(f"{path}/{child.name}", child) for child in entry]
            elif entry.filemode in _PLAIN_FILES:
                found.append(path)
        return sorted(found)

    def _prepare(self, change: NewCommit, parent: str) -> Prepared:
        _check_size(change)
        repo = self._repo()
        try:
            tree = _tree_with(repo, self._tree(repo, parent), change.files)
            if change.base is not None and change.base != parent:
                self._refuse_overlap(change, parent)
            author, now = messages.clean_identity(change.author), int(time.time())
            commit = repo.create_commit(
                None,
                pygit2.Signature(author.name, author.email, now, 0),
                pygit2.Signature(SERVICE.name, SERVICE.email, now, 0),
                messages.compose(change.subject, change.trailers),
                tree,
                [parent],
            )
        except (pygit2.GitError, OSError, ValueError, KeyError) as fault:
            raise GitFault(f"the commit could not be stored: {reason(fault)}") from fault
        return Prepared(commit_id=str(commit), parent_id=parent)

    def _refuse_overlap(self, change: NewCommit, tip: str) -> None:
        """The swap of the branch alone would merge silently over a newer version of the same file."""
        assert change.base is not None
        touched = set(changed_paths(self._repo(), change.base, tip)) & set(change.files)
        if touched:
            raise Conflict(f"{', '.join(sorted(touched))} changed since commit {change.base[:12]}")

    def _move(self, expected: str, target: str) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                self._swap(expected, target)
                return
            except (pygit2.GitError, ValueError, OSError) as fault:
                if self._tip() != expected:
                    raise Conflict(f"the branch moved away from {expected[:12]}") from fault
                lock = self._path / f"{BRANCH}.lock"
                if time.monotonic() >= deadline:
                    if lock.exists():
                        raise Locked(
                            f"the lock file {BRANCH}.lock in {self._path.name} is in the way: if no "
                            "git program is working on this repository, delete that file"
                        ) from fault
                    raise GitFault(f"the branch could not be moved: {reason(fault)}") from fault
                time.sleep(random.uniform(0.005, 0.03))  # nosec B311

    def _swap(self, expected: str, target: str) -> None:
        repo = self._repo()
        repo.set_ident(SERVICE.name, SERVICE.email)
        ref = repo.lookup_reference(BRANCH)
        if str(ref.target) != expected:
            raise ValueError("the branch is elsewhere")
        # libgit2 compares again under the lock with the value this handle has read.
        ref.set_target(pygit2.Oid(hex=target), "heddle: move")

    def _commit(self, change: NewCommit) -> str:
        for attempt in range(COMMIT_ATTEMPTS):
            prepared = self._prepare(change, self._tip())
            try:
                self._move(prepared.parent_id, prepared.commit_id)
                return prepared.commit_id
            except Conflict:
                time.sleep(random.uniform(0, 0.005 * (attempt + 1)))  # nosec B311
        raise Conflict(f"the branch moved {COMMIT_ATTEMPTS} times while this change waited for its turn")

    def _contains(self, commit_id: str, within: str) -> bool:
        repo = self._repo()
        try:
            return commit_id == within or bool(repo.descendant_of(within, commit_id))
        except (pygit2.GitError, KeyError, ValueError):
            return False  # one of them is not in this repository


def reason(fault: Exception) -> str:
    """The fault in a few words, without the folders of this machine."""
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return str(fault).replace(os.sep + "proc", "").split("\n", 1)[0][:200] or type(fault).__name__


def _check_size(change: NewCommit) -> None:
    if not change.files:
        raise GitFault("a commit needs at least one file")
    if len(change.files) > MAX_FILES:
        raise GitTooLarge(f"{len(change.files)} files in one commit: at most {MAX_FILES}")
    for path, data in change.files.items():
        check_path(path)
        if data is not None and len(data) > MAX_FILE_BYTES:
            raise GitTooLarge(f"{path} has {len(data)} bytes: at most {MAX_FILE_BYTES}")


def _tree_with(repo: pygit2.Repository, base: pygit2.Tree | None, files: Mapping[str, bytes | None]) -> pygit2.Oid:
    index = pygit2.Index()
    if base is not None:
        index.read_tree(base)
    for path, data in files.items():
        check_path(path)
        if data is None:
            index.remove(path)
        else:
            index.add(pygit2.IndexEntry(path, repo.create_blob(data), FileMode.BLOB))
    for entry in index:
        if entry.mode not in _PLAIN_FILES:
            raise GitFault(f"{entry.path!r} is a link or a submodule: a project holds plain files only")
    return index.write_tree(repo)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
