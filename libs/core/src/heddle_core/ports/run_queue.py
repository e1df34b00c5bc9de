"""The run row as a queue: who may execute a run, and how it ends.

Promises (run-engine, "The run row as a queue"): one running run per thread; a claim has one owner, named by a fresh
`token` and a higher `attempt`; an owner that lost its lease can write nothing, neither checkpoints nor an outcome; a
run's outcome and its thread's status change in one transaction. Times are the database's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from heddle_core.domain.ids import AssistantId, RunId, ThreadId
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import CancelAction, NewRun, Outcome, Run, RunKwargs
from heddle_core.domain.thread import StateSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to execute one run, until the lease ends.

    `already_started`: the thread's newest root checkpoint was written by this very run, so it continues from there
    (input None) instead of starting over (run-engine section 9). `ledger` belongs to the storage adapter: it buffers
    the run's checkpoints and travels with the claim to the checkpointer.
    """

    run: Run
    kwargs: RunKwargs
    assistant_id: AssistantId
    graph_id: str
    attempt: int
    token: UUID
    thread_metadata: Encoded
    thread_config: Encoded
    already_started: bool
    ledger: object

    @property
    def run_id(self) -> RunId:
        return self.run.run_id

    @property
    def thread_id(self) -> ThreadId:
        return self.run.thread_id


class NotOpened(StrEnum):
    """Why the fast path wrote nothing."""

    BUSY = "busy"  # the thread has runs in flight: take the ordinary unit of work and decide
    NO_THREAD = "no_thread"
    NO_ASSISTANT = "no_assistant"
    STALE_ASSISTANT = "stale_assistant"  # the cached version is not the row's: read it again


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What the heartbeat said of one claim."""

    held: bool
    cancel: CancelAction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """`next_due` is how long until the next delayed run is due, None when there is none."""

    claims: tuple[Claim, ...] = ()
    next_due: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """`held` false: the claim was lost, nothing was written. `successor_due`: the thread has a run that can start.

    `instead`: the outcome that was written because the one asked for could not be, such as a run whose last checkpoint
    the database refused.
    """

    held: bool
    successor_due: bool = False
    instead: Outcome | None = None


class RunQueue(Protocol):
    async def open(self, new: NewRun, *, lease: timedelta) -> Claim | NotOpened:
        """Insert the run born claimed if its thread is idle; otherwise write nothing. One statement, one commit.

        Creates the thread when the run is ephemeral or says `if_not_exists=create`. Repeating it with the same run
        id after a connection error is safe.
        """
        ...

    async def claim(self, free: int, *, lease: timedelta) -> Claimed:
        """Take up to `free` due pending runs, the oldest of each thread, none whose thread has a running run."""
        ...

    async def heartbeat(self, claims: Sequence[Claim], *, lease: timedelta) -> Sequence[Beat]:
        """Extend the leases, in one statement; says in the same order who still holds and who is to stop."""
        ...

    async def finish(self, claim: Claim, outcome: Outcome, state: StateSummary | None) -> Finished:
        """Write the tail of the checkpoints, the outcome and the thread's status and values, in one transaction.

        `state` None leaves the thread's values as they are (rollback, release). Removes the thread of an ephemeral
        run, unless the run was released.
        """
        ...

    async def reap(self, *, max_attempts: int, limit: int = 100) -> Sequence[RunId]:
        """Take runs from owners whose lease has ended: pending again, or `error` after `max_attempts` attempts.

        Frees the thread of a run that is given up, honours a cancel that its owner did not live to see, and removes
        hidden threads whose run is over.
        """
        ...
