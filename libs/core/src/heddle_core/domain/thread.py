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


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A thread's row. JSON columns are text; `values` is the last root state, None before the first."""

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
class Page:
    """A slice of a search. Ties are broken by id, so pages never overlap."""

    limit: int = 10
    offset: int = 0
    sort_by: str = "created_at"
    descending: bool = True
    select: frozenset[str] | None = field(default=None)


def resting_status(outcome: OutcomeKind, *, has_next: bool) -> ThreadStatus:
    """The status of a thread once nothing is in flight on it, after a run that ended like this."""
    if outcome in (OutcomeKind.ERROR, OutcomeKind.TIMEOUT):
        return ThreadStatus.ERROR
    return ThreadStatus.INTERRUPTED if has_next else ThreadStatus.IDLE
