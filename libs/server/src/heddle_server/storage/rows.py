"""Checkpoint rows on their way to the database, in the column order of `heddle.write_rows`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

CheckpointRow: TypeAlias = tuple[UUID, str, str, str, str | None, str, str]
"""run, thread, namespace, id, parent id, checkpoint JSON, metadata JSON"""

BlobRow: TypeAlias = tuple[UUID, str, str, str, str, str, bytes]
"""run, thread, namespace, channel, version, type, bytes"""

WriteRow: TypeAlias = tuple[UUID, str, str, str, str, str, int, str, str, bytes]
"""run, thread, namespace, checkpoint id, task id, task path, index, channel, type, bytes"""

WRITE_ROWS = "SELECT heddle.write_rows($1, {})".format(", ".join(f"${n}" for n in range(2, 26)))
"""Takes the run ids whose rows are to be stored, then `Rows.parameters()`."""

FLUSH_ROWS = "SELECT heddle.flush_rows($1, $2, {})".format(", ".join(f"${n}" for n in range(3, 27)))
"""Takes run ids and their tokens, then `Rows.parameters()`; returns the run ids still owned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of any number of runs. Holds no key twice, as one statement must not."""

    checkpoints: Sequence[CheckpointRow] = ()
    blobs: Sequence[BlobRow] = ()
    writes: Sequence[WriteRow] = ()
    size: int = field(default=0)

    def __bool__(self) -> bool:
        return bool(self.checkpoints or self.blobs or self.writes)

    @property
    def count(self) -> int:
        return len(self.checkpoints) + len(self.blobs) + len(self.writes)

    def parameters(self) -> list[Sequence[object]]:
        """The arrays of `write_rows`, after its first argument."""
        return [
            *(zip(*self.checkpoints, strict=True) if self.checkpoints else _EMPTY[:7]),
            *(zip(*self.blobs, strict=True) if self.blobs else _EMPTY[:7]),
            *(zip(*self.writes, strict=True) if self.writes else _EMPTY),
        ]

    @classmethod
    def merge(cls, parts: Iterable[Rows]) -> Rows:
        """The rows of several runs as one. Runs share no key, because a thread has one running run."""
        parts = list(parts)
        if len(parts) == 1:
            return parts[0]
        return cls(
            checkpoints=[row for part in parts for row in part.checkpoints],
            blobs=[row for part in parts for row in part.blobs],
            writes=[row for part in parts for row in part.writes],
            size=sum(part.size for part in parts),
        )


_EMPTY: list[Sequence[object]] = [()] * 10


@dataclass(slots=True)
class Buffer:
    """Rows by key: reserved writes (index below zero) replace, ordinary ones keep the first."""

    checkpoints: dict[tuple[str, str], CheckpointRow] = field(default_factory=dict)
    blobs: dict[tuple[str, str, str], BlobRow] = field(default_factory=dict)
    writes: dict[tuple[str, str, str, int], WriteRow] = field(default_factory=dict)
    size: int = 0
    since: float | None = None  # when its first step checkpoint arrived
    latest: float = 0.0  # and its last one

    @property
    def count(self) -> int:
        return len(self.checkpoints) + len(self.blobs) + len(self.writes)

    def add_writes(self, rows: Iterable[WriteRow]) -> None:
        for row in rows:
            key = row[2], row[3], row[4], row[6]
            if row[6] < 0 or key not in self.writes:
                self.writes[key] = row
                self.size += len(row[9])

    def note_step(self, moment: float) -> None:
        self.latest = moment
        if self.since is None:
            self.since = moment

    def due(self, delay: float) -> float | None:
        """When to flush; None while no step waits.

        `delay` after the first step, or as soon after that as the steps pause, but within three times `delay`: a
        run of many short steps then takes a few large statements.
        """
        if self.since is None:
            return None
        return min(max(self.since + delay, self.latest + delay / 2), self.since + 3 * delay)

    def rows(self) -> Rows:
        return Rows(
            checkpoints=list(self.checkpoints.values()),
            blobs=list(self.blobs.values()),
            writes=list(self.writes.values()),
            size=self.size,
        )

    def put_under(self, rows: Rows) -> None:
        """Take back rows that are older than these."""
        size = self.size + rows.size
        self.checkpoints = {(row[2], row[3]): row for row in rows.checkpoints} | self.checkpoints
        self.blobs = {(row[2], row[3], row[4]): row for row in rows.blobs} | self.blobs
        newer, self.writes = self.writes, {}
        self.add_writes(rows.writes)
        self.add_writes(newer.values())
        self.size = size
        self.note_step(time.monotonic())
