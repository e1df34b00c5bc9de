"""The event log of one process.

A log is a list of events with the number of its first one. Writers only append, so a reader is a position and
needs no queue of its own. An unretained log drops what all its readers have seen; both kinds are bounded, and a
reader that falls behind the bound is told so instead of being handed a gap.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.events import BEGINNING, End, Event, EventId, StoredEvent
from heddle_core.domain.ids import RunId
from heddle_core.domain.json import Encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of one run's log is kept in memory."""

    events: int = 50_000
    bytes: int = 64 * 1024 * 1024


@dataclass(slots=True, eq=False)
class _Log:
    run: RunId
    attempt: int = 0
    number: int = 0  # of the newest event in this attempt
    dropped: int = 0  # events no longer in the list, over all attempts
    last_dropped: EventId = BEGINNING
    opening: Event | None = None  # the first event of the attempt
    bytes: int = 0
    events: list[StoredEvent] = field(default_factory=list)
    retain: bool = False
    is_open: bool = False
    end: End | None = None
    readers: set[_Reader] = field(default_factory=set)
    watchers: int = 0


class _Writer:
    def __init__(self, log: _Log, bounds: Bounds) -> None:
        self._log = log
        self._attempt = log.attempt
        self._bounds = bounds

    @property
    def is_watched(self) -> bool:
        return self._log.retain or self._log.watchers > 0

    def append(self, events: Sequence[Event]) -> None:
        log = self._log
        if log.attempt != self._attempt or log.end:
            return  # a graph that was left behind still talks
        if log.number == 0 and events:
            log.opening = events[0]
        if not self.is_watched:
            log.number += len(events)
            return
        for event in events:
            log.number += 1
            log.events.append(StoredEvent(EventId(log.attempt, log.number), event))
            log.bytes += len(event.data)
        if len(log.events) > self._bounds.events or log.bytes > self._bounds.bytes:
            self._trim()
        for reader in log.readers:
            reader.notify()

    def _trim(self) -> None:
        """Drop what every reader has seen, then the oldest, until half of the bound is free again."""
        log, bounds = self._log, self._bounds
        seen = 0 if log.retain else min((r.position for r in log.readers), default=0) - log.dropped
        keep_bytes = log.bytes
        drop = 0
        while drop < len(log.events) and (
            drop < seen or len(log.events) - drop > bounds.events // 2 or keep_bytes > bounds.bytes // 2
        ):
            keep_bytes -= len(log.events[drop].event.data)
            log.last_dropped = log.events[drop].id
            drop += 1
        del log.events[:drop]
        log.dropped += drop
        log.bytes = keep_bytes


class _Reader:
    """`position` counts all events of the log since its first, dropped ones included."""

    def __init__(self, log: _Log, after: EventId | None, *, only_end: bool, forget: _Forget) -> None:
        self._log = log
        self._only_end = only_end
        self._forget = forget
        self._changed: asyncio.Future[None] | None = None
        self._noticed = False
        self._greeting: StoredEvent | None = None
        self.position = log.dropped + len(log.events)
        if not only_end:
            log.watchers += 1
            if after is not None:
                self.position = self._place(after)
            if log.opening is not None and not log.end and self._missed_the_opening(after):
                self._greeting = StoredEvent(EventId(log.attempt, log.number), log.opening)
                self._noticed = True
        log.readers.add(self)

    def _place(self, after: EventId) -> int:
        """The position behind `after`; one that `ready` reports as a gap when events behind it were dropped."""
        log = self._log
        if after < log.last_dropped:
            return log.dropped - 1
        return log.dropped + bisect_right(log.events, after, key=lambda stored: stored.id)

    def _missed_the_opening(self, after: EventId | None) -> bool:
        """It joined live, or it wants everything of a log that kept nothing while nobody watched."""
        log, first = self._log, EventId(self._log.attempt, 1)
        if after is None or log.retain:
            return after is None
        return after < first and (not log.events or log.events[0].id > first)

    def ready(self) -> Sequence[StoredEvent | End]:
        log = self._log
        self._noticed = False
        if self._only_end:
            return [log.end] if log.end else ()
        start = self.position - log.dropped
        if start < 0:
            raise Unavailable("This reader fell behind: events it has not seen are no longer kept.")
        batch: list[StoredEvent | End] = list(log.events[start:])
        self.position += len(batch)
        if self._greeting is not None:
            batch.insert(0, self._greeting)
            self._greeting = None
        if log.end:
            batch.append(log.end)
        return batch

    async def wait(self, seconds: float) -> bool:
        if self._noticed or self._log.end:
            return True
        loop = asyncio.get_running_loop()
        self._changed = loop.create_future()
        timer = loop.call_later(seconds, self._time_out)
        try:
            await self._changed
        finally:
            timer.cancel()
            self._changed = None
        return self._noticed

    def _time_out(self) -> None:
        if self._changed and not self._changed.done():
            self._changed.set_result(None)

    def notify(self) -> None:
        if not self._only_end or self._log.end:
            self.poke()

    def poke(self) -> None:
        self._noticed = True
        self._time_out()

    def close(self) -> None:
        if self in self._log.readers:
            self._log.readers.remove(self)
            if not self._only_end:
                self._log.watchers -= 1
            self._forget(self._log)


class _Forget:
    """Drops logs that nobody can want any more."""

    def __init__(self, logs: dict[RunId, _Log]) -> None:
        self._logs = logs

    def __call__(self, log: _Log) -> None:
        unopened_or_over = not log.is_open and not (log.end and log.retain)
        if unopened_or_over and not log.readers and self._logs.get(log.run) is log:
            del self._logs[log.run]


def _continued(run: RunId, old: _Log | None) -> _Log:
    """The log of a run's next attempt, with what was retained of the ones before."""
    if old is None or not old.retain:
        return _Log(run)
    return _Log(run, events=old.events, bytes=old.bytes, dropped=old.dropped, last_dropped=old.last_dropped)


class MemoryEventLog:
    """Logs of the runs that this process executes; implements `ports.event_log.EventLog`. One event loop."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._logs: dict[RunId, _Log] = {}
        self._forget = _Forget(self._logs)

    def begin(self, run: RunId, attempt: int, *, retain: bool) -> _Writer:
        log = self._logs.get(run)
        if log is None or log.end:
            log = self._logs[run] = _continued(run, log)
        log.attempt, log.number, log.opening, log.retain, log.is_open = attempt, 0, None, retain, True
        return _Writer(log, self._bounds)

    def end(self, run: RunId, attempt: int, result: Encoded | None, *, keep: timedelta) -> None:
        log = self._logs.get(run)
        if log is None or log.end or log.attempt != attempt:
            return
        log.end, log.is_open = End(result), False
        for reader in tuple(log.readers):
            reader.notify()
        if log.retain:
            asyncio.get_running_loop().call_later(keep.total_seconds(), self._expire, log)
        else:
            self._forget(log)

    def _expire(self, log: _Log) -> None:
        log.retain = False
        self._forget(log)

    def knows(self, run: RunId) -> bool:
        log = self._logs.get(run)
        return log is not None and (log.is_open or log.end is not None)

    def read(self, run: RunId, after: EventId | None, *, only_end: bool = False) -> _Reader:
        log = self._logs.get(run)
        if log is None or (log.end and log.end.result is None):
            # Not open yet, or it went elsewhere and may come back: the next attempt is read from its start.
            log = self._logs[run] = _continued(run, log)
        return _Reader(log, after, only_end=only_end, forget=self._forget)

    def poke(self, run: RunId | None) -> None:
        logs = tuple(self._logs.values()) if run is None else tuple(filter(None, [self._logs.get(run)]))
        for log in logs:
            for reader in tuple(log.readers):
                reader.poke()
