"""Events are a log, not a queue: one writer appends, any number of readers read by position."""

from __future__ import annotations

from collections.abc import Sequence
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


class EventReader(Protocol):
    """A position in a log. Replay and live are one: `ready` hands out what is there, `wait` waits for more."""

    def ready(self) -> Sequence[StoredEvent | End]:
        """All that can be had without waiting, in order; an `End` is the last thing ever.

        Raises `Unavailable` when events after this position have fallen out of a bounded log.
        """
        ...

    async def wait(self, seconds: float) -> bool:
        """True when something may be ready or the log was poked; False after `seconds` of silence."""
        ...

    def close(self) -> None: ...


class EventLog(Protocol):
    def begin(self, run: RunId, attempt: int, *, retain: bool) -> EventWriter:
        """Open the log of an attempt in this process. `retain`: keep events for readers yet to come."""
        ...

    def end(self, run: RunId, attempt: int, result: Encoded | None, *, keep: timedelta) -> None:
        """Close the log; readers end. A retained log stays readable for `keep`, any other goes when read out.

        `result` is what `wait` answers. None: the run goes on elsewhere, its row knows. An attempt that was followed by
        another ends nothing, as it can append nothing.
        """
        ...

    def knows(self, run: RunId) -> bool:
        """Is this run's log, or its retained rest, in this process?"""
        ...

    def read(self, run: RunId, after: EventId | None, *, only_end: bool = False) -> EventReader:
        """A reader attached now, also to a run whose log is not open yet.

        `after` None: live only; of a log that goes on, such a reader hears the first event (`metadata`) once more,
        under the id of the newest, so that it may resume from there. `only_end`: it waits for the end and
        does not count as watching.
        """
        ...

    def poke(self, run: RunId | None) -> None:
        """Make the readers of a run, or of all, look at the run's row: something may have happened elsewhere."""
        ...
