"""What a run says while it runs. Data is JSON text, encoded once by the writer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import total_ordering

from heddle_core.domain.json import Encoded


class StreamMode(StrEnum):
    """The v1 stream modes (server-api section 6)."""

    VALUES = "values"
    UPDATES = "updates"
    MESSAGES = "messages"
    MESSAGES_TUPLE = "messages-tuple"
    CUSTOM = "custom"
    EVENTS = "events"
    DEBUG = "debug"
    TASKS = "tasks"
    CHECKPOINTS = "checkpoints"


@total_ordering
@dataclass(frozen=True, slots=True)
class EventId:
    """`attempt-number`: where an event stands in its run's log. It is the SSE id and the `Last-Event-ID`."""

    attempt: int
    number: int

    def __str__(self) -> str:
        return f"{self.attempt}-{self.number}"

    def __lt__(self, other: EventId) -> bool:
        return (self.attempt, self.number) < (other.attempt, other.number)

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """None for anything that is not an id of ours; such a reader replays from the beginning."""
        attempt, dash, number = text.partition("-")
        if dash and attempt.isascii() and attempt.isdigit() and number.isascii() and number.isdigit():
            return cls(int(attempt), int(number)) if len(text) < 40 else None
        return None


BEGINNING = EventId(0, 0)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a run said.

    `name` is the name on the wire, with the subgraph namespace where there is one (`values|sub:<id>`);
    `mode` is the stream mode that asked for it, None for `metadata` and `error`, which every reader gets.
    """

    name: str
    data: Encoded
    mode: StreamMode | None = None


@dataclass(slots=True)
class StoredEvent:
    """An event with its place in the log. `frame` is the encoder's to fill: all readers share one frame."""

    id: EventId
    event: Event
    frame: bytes | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class End:
    """The last thing in a log. `result` is what `wait` and `join` answer; None: the row knows (the run moved)."""

    result: Encoded | None
