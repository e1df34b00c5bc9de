"""A thread: the state of one conversation, and what is running on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from heddle_core.domain.ids import ThreadId
from heddle_core.domain.json import EMPTY_OBJECT, Encoded
from heddle_core.domain.run import OutcomeKind


class ThreadStatus(StrEnum):
    IDLE = "idle"
    BUSY = "busy"
    INTERRUPTED = "interrupted"
    ERROR = "error"


class IfExists(StrEnum):
    """What creating a thread under an id that is taken means."""

    RAISE = "raise"
    DO_NOTHING = "do_nothing"  # the thread that is there is the answer, as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A thread's row. JSON columns are text; `values` is the last root state, None before the first.

    `extracted` is there only in the rows of a search that asked for it.
    """

    thread_id: ThreadId
    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime
    metadata: Encoded
    config: Encoded
    status: ThreadStatus
    values: Encoded | None = None
    interrupts: Encoded = EMPTY_OBJECT
    error: Encoded | None = None
    extracted: Encoded | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSummary:
    """What a thread row shows of its newest root checkpoint."""

    values: Encoded | None = None
    interrupts: Encoded = EMPTY_OBJECT
    has_next: bool = False
    checkpoint_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadFilter:
    """Which threads a search or a count means. None: any."""

    ids: tuple[ThreadId, ...] | None = None
    metadata: Encoded | None = None
    values: Encoded | None = None
    status: ThreadStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """One value of a thread's JSON, by a path of keys and list positions (negative: from the end)."""

    alias: str
    root: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A slice of a search. Ties are broken by id, so pages never overlap. `extract` is for threads."""

    limit: int = 10
    offset: int = 0
    sort_by: str = "created_at"
    descending: bool = True
    select: frozenset[str] | None = field(default=None)
    extract: tuple[Extract, ...] = ()


def resting_status(outcome: OutcomeKind, *, has_next: bool) -> ThreadStatus:
    """The status of a thread once nothing is in flight on it, after a run that ended like this."""
    if outcome in (OutcomeKind.ERROR, OutcomeKind.TIMEOUT):
        return ThreadStatus.ERROR
    return ThreadStatus.INTERRUPTED if has_next else ThreadStatus.IDLE
