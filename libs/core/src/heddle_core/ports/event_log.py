"""Events are a log, not a queue: one writer appends, any number of readers read by position."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Protocol

from heddle_core.domain.events import End, Event, EventId, StoredEvent
from heddle_core.domain.ids import RunId
from heddle_core.domain.json import Encoded


class EventWriter(Protocol):
    """The writer's half: the graph runtime sees only this."""

    @property
    def is_watched(self) -> bool:
        """Could anybody ever read what is appended now? If not, encoding it is work for nothing."""
        ...

    def append(self, events: Sequence[Event]) -> None: ...


class EventLog(Protocol):
    def begin(self, run: RunId, attempt: int, *, retain: bool) -> EventWriter:
        """Open the log of an attempt in this process. `retain`: keep all events, for readers yet to come."""
        ...

    def end(self, run: RunId, attempt: int, result: Encoded | None, *, keep: timedelta) -> None:
        """Close the log; readers end. A retained log stays readable for `keep`, any other goes when read out."""
        ...

    def knows(self, run: RunId) -> bool:
        """Is this run's log, or its retained rest, in reach of this process?"""
        ...

    def read(self, run: RunId, after: EventId | None) -> AsyncIterator[StoredEvent | End]:
        """Replay what came after `after`, follow, end with `End`. None: live only. Attached at the call, not at the
        first step, so nothing appended in between is missed. A reader that falls out of a bounded, unretained log
        gets `Unavailable`."""
        ...

    def result(self, run: RunId) -> AsyncIterator[End]:
        """Only the end. Attached at the call; does not count as watching."""
        ...
