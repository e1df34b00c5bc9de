"""What a caller can want of threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from heddle_core.domain.errors import Conflict, NotFound
from heddle_core.domain.ids import ThreadId, new_thread_id
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import CancelAction
from heddle_core.domain.thread import IfExists, Page, Thread, ThreadFilter
from heddle_core.ports.graph_runtime import StateUpdate
from heddle_core.ports.signals import Signal, SignalKind
from heddle_core.usecases.context import Ports
from heddle_core.usecases.state import write_state


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateThread:
    """`thread_id` None: a new one. `supersteps` are applied in order, as state updates, to a thread that is new."""

    thread_id: ThreadId | None = None
    metadata: Encoded
    if_exists: IfExists = IfExists.RAISE
    supersteps: Sequence[Sequence[StateUpdate]] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One page of a search and how many threads there are in all."""

    threads: Sequence[Thread]
    total: int


async def create(ports: Ports, wanted: CreateThread) -> Thread:
    """Create a thread; whole, or not at all when a superstep fails. Raises `Conflict` when the id is taken."""
    thread_id = wanted.thread_id or new_thread_id()
    if wanted.supersteps:
        thread = await _create_with_state(ports, thread_id, wanted)
    else:
        async with ports.storage.single() as work:
            thread = await work.threads.insert(thread_id, wanted.metadata)
    if thread is not None:
        return thread
    if wanted.if_exists is IfExists.DO_NOTHING:
        async with ports.storage.single() as work:
            existing = await work.threads.get(thread_id)
        if existing is not None:
            return existing
        raise Conflict(f"Thread {thread_id} was deleted while it was asked for; try again.")
    raise Conflict(f"Thread {thread_id} already exists.")


async def _create_with_state(ports: Ports, thread_id: ThreadId, wanted: CreateThread) -> Thread | None:
    async with ports.storage.begin() as work:
        thread = await work.threads.insert(thread_id, wanted.metadata)
        if thread is None:
            return None
        await write_state(ports, work, thread, None, wanted.supersteps)
        return await work.threads.get(thread_id)


async def get(ports: Ports, thread_id: ThreadId) -> Thread:
    async with ports.storage.single() as work:
        thread = await work.threads.get(thread_id)
    if thread is None:
        raise NotFound.thread(thread_id)
    return thread


async def merge_metadata(ports: Ports, thread_id: ThreadId, metadata: Encoded) -> Thread:
    """Keys that are given replace those of the same name; the others stay."""
    async with ports.storage.single() as work:
        thread = await work.threads.merge_metadata(thread_id, metadata)
    if thread is None:
        raise NotFound.thread(thread_id)
    return thread


async def search(ports: Ports, wanted: ThreadFilter, page: Page) -> Found:
    """One page, with the exact total; counted only when the page itself does not tell."""
    async with ports.storage.single() as work:
        threads = await work.threads.search(wanted, page)
        end = page.offset + len(threads)
        if len(threads) < page.limit and (threads or page.offset == 0):
            return Found(threads=threads, total=end)
        total = await work.threads.count(wanted)
    return Found(threads=threads, total=max(total, end) if threads else total)


async def count(ports: Ports, wanted: ThreadFilter) -> int:
    async with ports.storage.single() as work:
        return await work.threads.count(wanted)


async def copy(ports: Ports, source: ThreadId) -> Thread:
    """A new thread with the state and history of another; its runs are not copied."""
    async with ports.storage.single() as work:
        thread = await work.threads.copy(source, new_thread_id())
    if thread is None:
        raise NotFound.thread(source)
    return thread


async def delete(ports: Ports, thread_id: ThreadId) -> None:
    """Remove a thread with its runs and state. Runs in flight are stopped; whatever they still write is refused."""
    async with ports.storage.begin() as work:
        if await work.threads.lock(thread_id) is None:
            raise NotFound.thread(thread_id)
        inflight = await work.runs.inflight(thread_id)
        running = await work.runs.cancel(inflight, CancelAction.ROLLBACK) if inflight else ()
        await work.threads.delete(thread_id)
        for run_id in running:
            await work.ring(Signal(SignalKind.CANCEL, run_id))
    for run_id in running:
        ports.local.cancel(run_id, CancelAction.ROLLBACK)
    for run in inflight:
        ports.log.poke(run.run_id)  # a reader of a pending run has no log to hear it from
