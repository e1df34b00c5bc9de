"""What a graph may ask of a project's repository, and the faults it must expect.

GitFault
├── BadPath        a path that could leave the repository or hide in it
├── Conflict       the branch moved, or a path changed since the commit the caller started from
├── Locked         another program holds (or left behind) a lock file
├── GitTooLarge    more bytes or files than a commit may carry
└── GitMissing     the git program is needed and not installed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID


class GitFault(Exception):
    """The repository could not do what was asked."""


class BadPath(GitFault):
    """The path is not one a project file may have."""


class Conflict(GitFault):
    """The branch is not where the caller last saw it."""


class Locked(GitFault):
    """A lock file is in the way."""


class GitTooLarge(GitFault):
    """The change is larger than a commit may be."""


class GitMissing(GitFault):
    """The git program is not on the PATH: install git (Debian and Ubuntu: apt-get install git)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who wrote a change. Names and addresses are cleaned before they reach a commit."""

    name: str
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCommit:
    """A change to commit: whole files by path (None removes one), and what to say about it."""

    files: Mapping[str, bytes | None]
    subject: str
    author: Identity
    trailers: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None  # the commit the change was made against: its paths must not have changed since


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A commit whose objects are stored and which no branch names yet."""

    commit_id: str
    parent_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRecord:
    """One commit of the project's branch, as history shows it."""

    commit_id: str
    parent_id: str | None
    author: Identity
    at: datetime
    message: str
    trailers: Mapping[str, str]
    changed_paths: Sequence[str]

    @property
    def subject(self) -> str:
        return self.message.split("\n", 1)[0]


class ProjectRepository(Protocol):
    """One project's files. Every method may be called from many tasks and many processes at once."""

    async def tip(self) -> str:
        """The newest commit of the branch."""

    async def read(self, path: str, commit_id: str | None = None) -> bytes | None:
        """A file's bytes at a commit (the tip by default); None when it is not there."""

    async def list_files(self, folder: str, commit_id: str | None = None) -> list[str]:
        """Paths of the plain files below a folder, sorted."""

    async def prepare(self, change: NewCommit, *, parent: str) -> Prepared:
        """Store a commit on top of `parent` without moving the branch."""

    async def move(self, *, expected: str, target: str) -> None:
        """Compare-and-swap the branch; Conflict when it is not at `expected`."""

    async def commit(self, change: NewCommit) -> str:
        """Prepare and move, again when the tip moved meanwhile; the id of the commit."""

    async def contains(self, commit_id: str, *, within: str) -> bool:
        """Whether `commit_id` is `within` itself or one of its ancestors."""

    async def history(
        self, *, after: str | None = None, path: str | None = None, limit: int = 1000
    ) -> list[CommitRecord]:
        """Commits of the branch, newest first, leaving out `after` and everything before it."""


class Projects(Protocol):
    """The repositories of all projects of one data directory."""

    async def open(self, project_id: UUID) -> ProjectRepository:
        """The project's repository, made on first use; concurrent callers agree on one."""
