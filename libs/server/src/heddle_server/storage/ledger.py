"""What one run has written and the database may not have yet.

A ledger belongs to one claim. The checkpointer appends rows to it, the flusher takes them in groups, and the close
takes the tail. Its promises:

- Appending never waits, so when a graph's stream ends every row it made is here, also after a cancel.
- Rows are serialized before they arrive: nothing here holds a live value of the graph.
- Two kinds of writes are held back, because an unfinished resume must never be stored in part: writes without a
  task (input of a resumed run) leave with the next checkpoint of their namespace, and the writes of a task that
  interrupted leave with the close. Otherwise a second attempt would answer the next question with the last answer.
- A read within the run sees everything appended. Heads of namespaces are answered from memory.
- After `lost`, `error` or the close, appending raises; nothing is written any more.

Any thread may append; everything else happens on the loop of the flusher.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID, uuid4

import orjson
from asyncpg import Record
from langgraph.checkpoint.serde.types import INTERRUPT

from heddle_core.domain.errors import LeaseLost, Unavailable
from heddle_core.domain.run import Durability
from heddle_server.storage.checkpoint_codec import Blob, Dumped, Stored, write_order
from heddle_server.storage.rows import Buffer, CheckpointRow, Rows, WriteRow

NULL_TASK: Final = "00000000-0000-0000-0000-000000000000"
_NO_BLOBS: Final[Mapping[str, Blob]] = {}


class Ledger:
    """The unflushed rows and the known heads of one run, or of one state update (`detached`)."""

    def __init__(
        self,
        run_id: UUID,
        thread_id: UUID | str,
        token: UUID | None,
        durability: Durability = Durability.ASYNC,
    ) -> None:
        self.run_id = run_id
        self.thread = str(thread_id)
        self.token = token
        self.durability = durability
        self.lost = False
        self.error: BaseException | None = None
        self.rung = False  # its flusher has been told, and has not looked yet
        self.counted = (0, 0)  # the rows and bytes its flusher knows of
        self._closed = False
        self._discarded = False
        self._lock = threading.Lock()
        self._pending = Buffer()
        self._held_inputs: dict[str, list[WriteRow]] = {}
        self._held_interrupts: list[WriteRow] = []
        self._heads: dict[str, Stored | None] = {}
        self._mine: set[str] = set()  # the namespaces whose head was made here
        self._made: dict[tuple[str, str], Stored] = {}
        self._opened: dict[str, Stored] = {}
        self._writes: dict[tuple[str, str], dict[tuple[str, int], WriteRow]] = {}
        self._in_flight: Rows | None = None
        self._landed: asyncio.Future[None] | None = None
        self._durable_head: str | None = None

    @classmethod
    def detached(cls, thread_id: UUID | str) -> Ledger:
        """A ledger without a claim, which only buffers: whoever locked the thread row writes its tail."""
        return cls(uuid4(), thread_id, None)

    @property
    def is_detached(self) -> bool:
        return self.token is None

    @property
    def is_in_flight(self) -> bool:
        return self._in_flight is not None

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def head(self) -> str | None:
        """The newest root checkpoint; after an error, the newest that was stored."""
        if self.error is not None or self.lost:
            return self._durable_head
        head = self._heads.get("")
        return head.id if head else None

    @property
    def already_started(self) -> bool:
        """Was the newest root checkpoint made by this run? Then it goes on from there, without its input."""
        head = self._heads.get("")
        return head is not None and orjson.loads(head.metadata).get("run_id") == str(self.run_id)

    @property
    def pending_rows(self) -> int:
        return self._pending.count

    @property
    def pending_size(self) -> int:
        return self._pending.size

    def due(self, delay: float) -> float | None:
        """When to flush (`time.monotonic`); None while no step waits."""
        return self._pending.due(delay)

    def preload(self, record: Record) -> None:
        """Remember the thread's newest root checkpoint, from the columns of `heddle.latest_checkpoint`."""
        self.remember("", Stored.from_head(self.thread, "", record))

    def remember(self, namespace: str, head: Stored | None) -> None:
        """Remember what the database holds as a namespace's newest checkpoint."""
        with self._lock:
            if self._heads.get(namespace) is not None:
                return
            self._heads[namespace] = head
            if head is None:
                return
            if namespace == "":
                self._durable_head = head.id
            known = {(row[4], row[6]): row for row in head.writes}
            for key, row in self._writes.get((namespace, head.id), {}).items():
                if row[6] < 0 or key not in known:
                    known[key] = row
            self._writes[namespace, head.id] = known

    def remember_opened(self, stored: Stored) -> None:
        """Remember a checkpoint that was asked for by id: the next one may be its child."""
        self._opened[stored.namespace] = stored

    def known_blobs(self, namespace: str, parent: str | None) -> Mapping[str, Blob]:
        """The blob rows of the parent of a checkpoint about to be made, as far as they are in memory."""
        if parent is None:
            return _NO_BLOBS
        for stored in (self._heads.get(namespace), self._opened.get(namespace)):
            if stored is not None and stored.id == parent:
                return stored.blobs
        made = self._made.get((namespace, parent))
        return made.blobs if made else _NO_BLOBS

    def put(
        self, namespace: str, checkpoint_id: str, parent: str | None, dumped: Dumped, metadata: str, *, step: bool
    ) -> None:
        """Append a checkpoint and its new blobs, after the inputs held for it. `step`: it ends a superstep."""
        run, thread = self.run_id, self.thread
        stored = Stored(
            thread=thread,
            namespace=namespace,
            id=checkpoint_id,
            parent=parent,
            checkpoint=dumped.checkpoint,
            metadata=metadata,
            blobs=dumped.blobs,
        )
        size = len(dumped.checkpoint) + len(metadata)
        with self._lock:
            self._refuse_when_over()
            pending = self._pending
            if held := self._held_inputs.pop(namespace, None):
                pending.add_writes(held)
            for channel, blob in dumped.new.items():
                pending.blobs[namespace, channel, blob.version] = (run, thread, namespace, channel, *blob)
                size += len(blob.data)
            pending.checkpoints[namespace, checkpoint_id] = (
                run,
                thread,
                namespace,
                checkpoint_id,
                parent,
                dumped.checkpoint,
                metadata,
            )
            pending.size += size
            if step:
                pending.note_step(time.monotonic())
            self._advance(namespace, stored)

    def _advance(self, namespace: str, head: Stored) -> None:
        before = self._heads.get(namespace)
        self._heads[namespace] = head
        self._mine.add(namespace)
        if self.is_detached:
            self._made[namespace, head.id] = head
            return
        if before is not None and before.id != head.id:
            self._writes.pop((namespace, before.id), None)
        if len(self._heads) > 1:
            # The superstep below is over: the calls it made to subgraphs are not asked for again.
            prefix = f"{namespace}|" if namespace else ""
            for other in [
                n for n in self._heads if n.startswith(prefix) and ":" in n[len(prefix) :] and n != namespace
            ]:
                over = self._heads.pop(other)
                self._mine.discard(other)
                if over is not None:
                    self._writes.pop((other, over.id), None)

    def put_writes(self, namespace: str, checkpoint_id: str, task: str, rows: list[WriteRow]) -> None:
        """Append the writes of one task; they may come before the checkpoint they hang on."""
        with self._lock:
            self._refuse_when_over()
            if self.is_detached:
                self._pending.add_writes(rows)
            elif task == NULL_TASK:
                self._held_inputs.setdefault(namespace, []).extend(rows)
            elif any(row[7] == INTERRUPT for row in rows):
                self._held_interrupts.extend(rows)
            else:
                self._pending.add_writes(rows)
            known = self._writes.setdefault((namespace, checkpoint_id), {})
            for row in rows:
                key = row[4], row[6]
                if row[6] < 0 or key not in known:
                    known[key] = row

    def _refuse_when_over(self) -> None:
        if self.lost:
            raise LeaseLost()
        if self.error is not None:
            raise Unavailable(f"the run's checkpoints could not be stored: {self.error}") from self.error
        if self._closed:
            raise Unavailable("the run is over: nothing can be added to its checkpoints")

    def latest(self, namespace: str, checkpoint_map: Mapping[str, str]) -> tuple[bool, Stored | None]:
        """Whether a namespace's newest checkpoint is known, and what it is."""
        with self._lock:
            if namespace in self._heads:
                head = self._heads[namespace]
                return True, self._with_writes(head) if head else None
            return self._is_fresh_call(namespace, checkpoint_map), None

    def _is_fresh_call(self, namespace: str, checkpoint_map: Mapping[str, str]) -> bool:
        """A subgraph called by a task of a checkpoint that this run made cannot have been called before."""
        parts = namespace.split("|")
        while len(parts) > 1 and parts[-1].isdecimal():  # the second call in a task, or a retry of it
            parts.pop()
        if ":" not in parts.pop():
            return False  # its state outlives the call
        caller = "|".join(parts)
        head = self._heads.get(caller)
        return caller in self._mine and head is not None and checkpoint_map.get(caller) == head.id

    def find(self, namespace: str, checkpoint_id: str) -> Stored | None:
        """A checkpoint by id, if it is in memory."""
        with self._lock:
            head = self._heads.get(namespace)
            if head is None or head.id != checkpoint_id:
                head = self._made.get((namespace, checkpoint_id))
            return self._with_writes(head) if head else None

    def _with_writes(self, stored: Stored) -> Stored:
        return overlaid(stored, self._writes.get((stored.namespace, stored.id)))

    def overlay(self, stored: Stored) -> Stored:
        """A checkpoint that was read, with the writes on it that are still here."""
        with self._lock:
            known = self._writes.get((stored.namespace, stored.id))
            return overlaid(stored, known) if known else stored

    @property
    def made(self) -> list[Stored]:
        """The checkpoints of a detached ledger, newest first."""
        with self._lock:
            return [self._with_writes(stored) for stored in reversed(self._made.values())]

    def take(self) -> Rows | None:
        """The rows to flush now, without those held back. Until `landed` or `restore` they count as in flight."""
        with self._lock:
            pending, self._pending = self._pending, Buffer()
        if not pending.count:
            return None
        self._in_flight = pending.rows()
        self._landed = asyncio.get_running_loop().create_future()
        return self._in_flight

    def landed(self) -> None:
        """The rows in flight are committed."""
        if self._in_flight is not None:
            self._note_durable(self._in_flight.checkpoints)
        self._end_flight()

    def restore(self) -> None:
        """The rows in flight were not written: they wait for the next flush, or for the close."""
        rows = self._in_flight
        if rows is not None and not (self.lost or self.error is not None or self._discarded):
            with self._lock:
                self._pending.put_under(rows)
        self._end_flight()

    def lose(self) -> None:
        """The claim is no longer ours; what is buffered must not be written."""
        self.lost = True
        self._drop()

    def fail(self, error: BaseException) -> None:
        """The database refuses these rows; the run cannot go on, and its thread stays at what was stored."""
        self.error = error
        self._drop()

    def discard(self) -> None:
        """Write nothing more: the run is rolled back."""
        self._closed = self._discarded = True
        self._drop()

    def close(self) -> None:
        """Append nothing more. What is buffered stays for `take_tail`, and reads go on."""
        self._closed = True

    async def settle(self) -> None:
        """Wait until no flush of this ledger is in flight. Then the tail can be taken."""
        while self._landed is not None:
            await asyncio.shield(self._landed)

    def take_tail(self) -> Rows:
        """Everything not stored yet, also what was held back, for the close. Closes it. Empty after an error.

        Await `settle` first: rows in flight are not in the tail, and come back when their flush fails.
        """
        if self._in_flight is not None:
            raise RuntimeError("a flush of this ledger is in flight: await settle() before take_tail()")
        with self._lock:
            self._closed = True
            tail, self._pending = self._pending, Buffer()
            for rows in (*self._held_inputs.values(), self._held_interrupts):
                tail.add_writes(rows)
            self._held_inputs, self._held_interrupts = {}, []
        return tail.rows()

    def _note_durable(self, rows: Sequence[CheckpointRow]) -> None:
        for row in rows:
            if row[2] == "":
                self._durable_head = row[3]

    def _drop(self) -> None:
        with self._lock:
            self._pending = Buffer()
            self._held_inputs, self._held_interrupts = {}, []

    def _end_flight(self) -> None:
        self._in_flight = None
        landed, self._landed = self._landed, None
        if landed is not None and not landed.done():
            landed.set_result(None)


def overlaid(stored: Stored, known: Mapping[tuple[str, int], WriteRow] | None) -> Stored:
    """A checkpoint with newer writes laid over its own."""
    if not known:
        return stored
    writes = {(row[4], row[6]): row for row in stored.writes}
    for key, row in known.items():
        if row[6] < 0 or key not in writes:
            writes[key] = row
    return replace(stored, writes=sorted(writes.values(), key=write_order))
