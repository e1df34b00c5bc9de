"""Watching a run from any process.

The log is in the process that executes the run. A reader elsewhere, or one that hears nothing, looks at the row: it
ends when the row ends, with what the row and its last checkpoint say.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from heddle_core.domain.errors import NotFound
from heddle_core.domain.events import BEGINNING, End, Event, EventId, StoredEvent, StreamMode
from heddle_core.domain.json import EMPTY_OBJECT, Encoded, encode
from heddle_core.domain.run import Run, RunStatus
from heddle_core.ports.event_log import EventReader
from heddle_core.ports.graph_runtime import ThreadGraph
from heddle_core.usecases.context import Ports

Item = StoredEvent | End

_QUIET_SECONDS = 30.0
"""How long a reader beside a running run sleeps; the log wakes it. Elsewhere it looks once per poll period."""


class Following:
    """Batches of a run's events up to its `End`, from the log when it is here, else from the row.

    Closing detaches the reader, whether or not anything was read.
    """

    def __init__(self, ports: Ports, run: Run, reader: EventReader, *, only_end: bool) -> None:
        self._ports = ports
        self._run = run
        self._reader = reader
        self._only_end = only_end
        self._said_metadata = False
        self._batches = self._follow()

    def __aiter__(self) -> Following:
        return self

    async def __anext__(self) -> Sequence[Item]:
        try:
            return await anext(self._batches)
        except BaseException:
            self._reader.close()
            raise

    async def aclose(self) -> None:
        try:
            await self._batches.aclose()
        finally:
            self._reader.close()

    async def _follow(self) -> AsyncGenerator[Sequence[Item], None]:
        ports, run = self._ports, self._run
        last: EventId | None = None
        poll = ports.limits.poll.total_seconds()
        while True:
            batch = self._reader.ready()
            moved = bool(batch) and isinstance(batch[-1], End) and batch[-1].result is None
            if moved:
                batch = batch[:-1]
            if batch:
                self._said_metadata = True
                yield batch
                if isinstance(batch[-1], End):
                    return
                last = batch[-1].id
            if moved:
                self._reader.close()
                self._reader = ports.log.read(run.run_id, last or BEGINNING, only_end=self._only_end)
            elif batch:
                continue
            here = ports.log.knows(run.run_id)
            if not here:
                words = await self._ask_the_row()
                if words:
                    yield words
                    if isinstance(words[-1], End):
                        return
            await self._reader.wait(_QUIET_SECONDS if here else poll)

    async def _ask_the_row(self) -> Sequence[Item]:
        """What a reader far from the log can be told now."""
        async with self._ports.storage.begin() as uow:
            row = await uow.runs.watch(self._run.run_id)
        quiet = self._said_metadata or self._only_end
        if row is None or row.status.is_terminal:
            return await _last_words(self._ports, row, said_metadata=quiet)
        if row.status is RunStatus.PENDING or quiet:
            return ()
        self._said_metadata = True
        return [_metadata(row)]


def _metadata(run: Run) -> StoredEvent:
    text = encode({"run_id": str(run.run_id), "attempt": max(run.attempt, 1)})
    return StoredEvent(EventId(max(run.attempt, 1), 0), Event("metadata", text))


async def _last_words(ports: Ports, run: Run | None, *, said_metadata: bool) -> Sequence[Item]:
    """What is left to say of a run whose log is not here: its final values or its error."""
    if run is None:  # rolled back or deleted
        return [End(EMPTY_OBJECT)]
    words: list[Item] = [] if said_metadata else [_metadata(run)]
    place = EventId(max(run.attempt, 1), 1)
    if run.error is not None:
        words.append(StoredEvent(place, Event("error", run.error)))
        return [*words, End(Encoded(b'{"__error__":' + run.error + b"}"))]
    output = await result_of(ports, run)
    return [*words, StoredEvent(place, Event("values", output, StreamMode.VALUES)), End(output)]


async def result_of(ports: Ports, run: Run) -> Encoded:
    """What `wait` answers for a run that is over, read from the checkpoint it ended on."""
    if run.head_checkpoint_id is None:
        return EMPTY_OBJECT
    async with ports.storage.begin() as uow:
        thread = await uow.threads.get(run.thread_id, select=frozenset())
    if thread is None:
        raise NotFound.thread(run.thread_id)
    graph = ThreadGraph(graph_id=run.graph_id, thread_id=run.thread_id, config={})
    return await ports.states.output(graph, run.head_checkpoint_id)
