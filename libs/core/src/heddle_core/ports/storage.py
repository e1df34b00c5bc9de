"""Rows and transactions. A unit of work commits when its block is left without an exception.

Repositories never commit. Lock order everywhere: threads by id, then runs by id, then checkpoint tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from heddle_core.domain.assistant import Assistant, AssistantContent, AssistantFilter
from heddle_core.domain.ids import AssistantId, RunId, ThreadId
from heddle_core.domain.item import Condition, Item, Namespace
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.domain.run import CancelAction, NewRun, Run, RunStatus
from heddle_core.domain.thread import Page, StateSummary, Thread, ThreadFilter
from heddle_core.ports.signals import Signal


class Threads(Protocol):
    async def insert(self, thread_id: ThreadId, metadata: Encoded, *, ephemeral: bool = False) -> Thread | None:
        """The new row, or None when the id exists (visible or hidden)."""
        ...

    async def get(self, thread_id: ThreadId, *, select: frozenset[str] | None = None) -> Thread | None:
        """The row. `select` names the JSON fields wanted, as in `Page`: a thread's values may be large."""
        ...

    async def lock(self, thread_id: ThreadId) -> Thread | None:
        """The row, locked until the unit of work ends: nothing starts, ends or writes state on it meanwhile.

        Of its JSON fields only `metadata` and `config` are read.
        """
        ...

    async def merge_metadata(self, thread_id: ThreadId, metadata: Encoded) -> Thread | None: ...

    async def search(self, wanted: ThreadFilter, page: Page) -> Sequence[Thread]: ...

    async def count(self, wanted: ThreadFilter) -> int: ...

    async def delete(self, thread_id: ThreadId) -> bool:
        """Remove the thread with its runs, checkpoints, blobs and writes."""
        ...

    async def copy(self, source: ThreadId, target: ThreadId) -> Thread | None:
        """Copy row, checkpoints, blobs and writes; runs are not copied. None when there is no source."""
        ...

    async def save_state(self, thread_id: ThreadId, ledger: object, state: StateSummary) -> None:
        """Write what a state update buffered in `ledger` and the thread row's summary, in this transaction."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures:
    """The queue of the whole database. `longest_wait` is that of the oldest pending run that is due."""

    pending: int
    running: int
    longest_wait: timedelta


class Runs(Protocol):
    async def insert(self, new: NewRun) -> Run:
        """A pending row; the thread becomes busy. The thread row must be locked by this unit of work."""
        ...

    async def get(self, thread_id: ThreadId, run_id: RunId) -> Run | None: ...

    async def find(self, run_id: RunId) -> Run | None:
        """By run id alone: run ids are unique for ever."""
        ...

    async def list(self, thread_id: ThreadId, page: Page, status: RunStatus | None) -> Sequence[Run]: ...

    async def inflight(self, thread_id: ThreadId) -> Sequence[Run]:
        """Pending and running runs of the thread, oldest first."""
        ...

    async def cancel(self, runs: Sequence[Run], action: CancelAction) -> Sequence[RunId]:
        """End pending runs now and ask running ones to stop; the thread's status follows.

        Returns those still running, which their owners must hear of. The thread row must be locked.
        """
        ...

    async def inflight_anywhere(self, status: RunStatus | None) -> Sequence[Run]:
        """Every run in flight, for cancel by status. None: pending and running."""
        ...

    async def delete(self, run: Run) -> None:
        """Remove a run that is over; its checkpoints stay; the thread's status follows. Thread row locked."""
        ...

    async def figures(self) -> QueueFigures: ...

    async def watch(self, run_id: RunId) -> Run | None:
        """The row, marked so that its end is announced to other processes (signal `run_ended`)."""
        ...


class Assistants(Protocol):
    async def insert(self, assistant_id: AssistantId, content: AssistantContent) -> Assistant | None:
        """Write version 1; None when the id exists."""
        ...

    async def get(self, assistant_id: AssistantId) -> Assistant | None: ...

    async def lock(self, assistant_id: AssistantId) -> Assistant | None: ...

    async def update(self, assistant_id: AssistantId, content: AssistantContent) -> Assistant:
        """Write this as a new version and make it the current one. The assistant must be locked."""
        ...

    async def set_latest(self, assistant_id: AssistantId, version: int) -> Assistant | None:
        """Make an older version current again, whole; None when there is no such version."""
        ...

    async def versions(self, assistant_id: AssistantId, metadata: Encoded | None, page: Page) -> Sequence[Assistant]:
        """Newest first. `updated_at` of a version is when it was made."""
        ...

    async def search(self, wanted: AssistantFilter, page: Page) -> Sequence[Assistant]: ...

    async def count(self, wanted: AssistantFilter) -> int: ...

    async def delete(self, assistant_id: AssistantId) -> bool:
        """Remove the assistant with its versions; its runs and threads stay."""
        ...

    async def threads_of(self, assistant_id: AssistantId) -> Sequence[ThreadId]:
        """Threads whose metadata names this assistant, by id."""
        ...

    async def inflight_of(self, assistant_id: AssistantId) -> Sequence[tuple[ThreadId, RunId]]:
        """Runs of this assistant in flight, by thread."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFilter:
    """Items whose namespace begins with `prefix` and whose value meets every condition."""

    prefix: Namespace = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceFilter:
    """`*` in a prefix or suffix stands for any one label."""

    prefix: Namespace = ()
    suffix: Namespace = ()
    max_depth: int | None = None
    limit: int = 100
    offset: int = 0


class Items(Protocol):
    async def put(self, namespace: Namespace, key: str, value: JsonObject) -> None: ...

    async def get(self, namespace: Namespace, key: str) -> Item | None: ...

    async def delete(self, namespace: Namespace, key: str) -> bool: ...

    async def search(self, wanted: ItemFilter, limit: int, offset: int) -> Sequence[Item]:
        """Newest change first; ties by namespace and key."""
        ...

    async def namespaces(self, wanted: NamespaceFilter) -> Sequence[Namespace]:
        """Those that match, then cut to `max_depth`, each once, in order of their labels."""
        ...


class UnitOfWork(Protocol):
    """One transaction. `ring` sends its signal at commit, and never if the block fails."""

    @property
    def threads(self) -> Threads: ...
    @property
    def runs(self) -> Runs: ...
    @property
    def assistants(self) -> Assistants: ...
    @property
    def items(self) -> Items: ...

    async def ring(self, signal: Signal) -> None: ...


class Storage(Protocol):
    def begin(self) -> AbstractAsyncContextManager[UnitOfWork]: ...

    def single(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """A unit of work without a transaction: each statement commits by itself.

        For reads and for changes of one statement, which it saves the round trips of a transaction. Locks end with
        their statement, and what was done before an exception stays done.
        """
        ...

    async def check(self) -> None:
        """Raise `Unavailable`, naming what is down, unless the database answers and its schema is ours."""
        ...
