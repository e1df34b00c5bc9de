"""Reading and changing the state of threads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn

from heddle_core.domain.errors import BadRequest, Conflict, NotFound, Unavailable
from heddle_core.domain.ids import ThreadId
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.domain.thread import Thread
from heddle_core.ports.graph_runtime import StateUpdate, ThreadGraph
from heddle_core.ports.storage import UnitOfWork
from heddle_core.usecases.context import Ports

NO_STATES = Encoded(b"[]")

_NEEDED = frozenset({"metadata", "config"})
"""What of a thread's row says how to read its state; the state itself is in the checkpoints."""


@asynccontextmanager
async def _patience(ports: Ports) -> AsyncIterator[None]:
    """A graph's factory is asked for every read; one that hangs must not keep the caller for ever."""
    limit = ports.limits.state_update.total_seconds()
    try:
        async with asyncio.timeout(limit):
            yield
    except TimeoutError:
        raise Unavailable(f"The graph did not give its state within {limit:g} seconds.") from None


async def read(ports: Ports, thread_id: ThreadId, checkpoint: JsonObject | None, *, subgraphs: bool) -> Encoded:
    """A ThreadState; the latest when no checkpoint is named. Empty, not an error, for an unknown checkpoint."""
    thread = await _get(ports, thread_id)
    if _graph_id(thread) is None:
        return _empty_state(thread_id, checkpoint)
    async with _patience(ports):
        return await ports.states.get(_graph(ports, thread), checkpoint, subgraphs=subgraphs)


async def history(
    ports: Ports,
    thread_id: ThreadId,
    *,
    limit: int,
    before: JsonObject | None,
    metadata: JsonObject | None,
    checkpoint: JsonObject | None,
) -> Encoded:
    """ThreadStates, newest first."""
    thread = await _get(ports, thread_id)
    if _graph_id(thread) is None:
        return NO_STATES
    graph = _graph(ports, thread)
    async with _patience(ports):
        return await ports.states.history(graph, limit=limit, before=before, metadata=metadata, checkpoint=checkpoint)


async def update(
    ports: Ports, thread_id: ThreadId, checkpoint: JsonObject | None, updates: Sequence[Sequence[StateUpdate]]
) -> JsonObject:
    """Apply supersteps of updates to the state and answer the new checkpoint. Raises `Conflict` beside a run."""
    async with ports.storage.begin() as work:
        thread = await work.threads.lock(thread_id)
        if thread is None:
            raise NotFound.thread(thread_id)
        if await work.runs.inflight(thread_id):
            raise Conflict(
                "Thread has a run in flight, which may change its state. Wait for it to finish or cancel it first."
            )
        return await write_state(ports, work, thread, checkpoint, updates)


async def write_state(
    ports: Ports,
    work: UnitOfWork,
    thread: Thread,
    checkpoint: JsonObject | None,
    updates: Sequence[Sequence[StateUpdate]],
) -> JsonObject:
    """Apply updates in this unit of work, which holds the thread: checkpoints and row change together."""
    graph = _graph(ports, thread)
    limit = ports.limits.state_update.total_seconds()
    try:
        async with asyncio.timeout(limit):
            updated = await ports.states.update(graph, checkpoint, updates)
    except TimeoutError:
        _took_too_long(graph.graph_id, limit)
    await work.threads.save_state(thread.thread_id, updated.ledger, updated.state)
    return updated.checkpoint


def _took_too_long(graph_id: str, seconds: float) -> NoReturn:
    """The thread is locked meanwhile, so code of the graph may not take for ever."""
    raise Unavailable(
        f"Graph {graph_id!r} took longer than {seconds:g} s to apply the update; nothing was changed."
    ) from None


async def _get(ports: Ports, thread_id: ThreadId) -> Thread:
    async with ports.storage.single() as work:
        thread = await work.threads.get(thread_id, select=_NEEDED)
    if thread is None:
        raise NotFound.thread(thread_id)
    return thread


def _graph_id(thread: Thread) -> str | None:
    graph_id = json.loads(thread.metadata).get("graph_id")
    return graph_id if isinstance(graph_id, str) else None


def _graph(ports: Ports, thread: Thread) -> ThreadGraph:
    graph_id = _graph_id(thread)
    if graph_id is None:
        raise BadRequest(
            f"Thread {thread.thread_id} has no graph: run an assistant on it once, or set its metadata.graph_id."
        )
    if graph_id not in ports.catalog.graphs:
        known = ", ".join(sorted(ports.catalog.graphs)) or "none"
        raise BadRequest(
            f"Graph {graph_id!r} in metadata.graph_id of thread {thread.thread_id} is not served here (known: {known})."
        )
    return ThreadGraph(graph_id=graph_id, thread_id=thread.thread_id, config=json.loads(thread.config))


def _empty_state(thread_id: ThreadId, checkpoint: JsonObject | None) -> Encoded:
    """The state of a thread on which no graph ran. A checkpoint that was asked for is echoed, nothing invented."""
    asked = (checkpoint or {}).get("checkpoint_id")
    reference = None
    if asked is not None:
        namespace = (checkpoint or {}).get("checkpoint_ns", "")
        reference = {"thread_id": str(thread_id), "checkpoint_ns": namespace, "checkpoint_id": asked}
    state: JsonObject = {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": None,
        "created_at": None,
        "checkpoint": reference,
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": asked,
        "parent_checkpoint_id": None,
    }
    return Encoded(json.dumps(state).encode())
