"""A second event loop in a thread, for graphs that block.

The home loop keeps the API, the heartbeats, the pool and the event log. What crosses over: the start of a run, at
most one cancel, and its events, which are handed over in batches (one wake-up for all that came meanwhile).
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from heddle_core.domain.events import Event
from heddle_core.ports.event_log import EventWriter
from heddle_server.graphs.guests import prepare_loop

T = TypeVar("T")
_SWITCH_INTERVAL = 0.0005
"""Seconds between thread switches: a busy node then costs the API 3 ms instead of 13."""


class IsolatedLoop:
    """Entering starts the thread; leaving cancels what still runs there and joins it."""

    def __init__(
        self, *, slots: int, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    ) -> None:
        self._slots = slots
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._serve, name="heddle-graphs", daemon=True)
        self._started = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    @property
    def thread_id(self) -> int | None:
        return self._thread.ident

    async def __aenter__(self) -> Self:
        if not self._started:
            self._started = True
            sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
            self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).add_done_callback(
                lambda _: self._loop.call_soon_threadsafe(self._loop.stop)
            )
            await asyncio.to_thread(self._thread.join)

    async def run(self, work: Callable[[EventWriter], Awaitable[T]], log: EventWriter) -> T:
        """Do the work over there. Returns, raises and is cancelled as if it were done here; a cancel waits for its
        end. All its events are in the log when this returns."""
        home = asyncio.get_running_loop()
        writer = _Handover(log, home)
        crossing: _Crossing[T] = _Crossing(self._loop, home)
        self._loop.call_soon_threadsafe(crossing.start, lambda: work(writer))
        try:
            await asyncio.wait([crossing.ended])
        except asyncio.CancelledError:
            self._loop.call_soon_threadsafe(crossing.cancel)
            await asyncio.wait([crossing.ended])
            writer.drain()
            if not crossing.ended.cancelled():
                crossing.ended.exception()  # seen: the cancel speaks for it
            raise
        writer.drain()
        return await crossing.ended

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        executor = prepare_loop(self._loop, slots=self._slots)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            executor.shutdown(wait=False, cancel_futures=True)
            self._loop.close()


class _Crossing(Generic[T]):
    """One piece of work in the other loop, and a future at home that ends with it."""

    def __init__(self, there: asyncio.AbstractEventLoop, home: asyncio.AbstractEventLoop) -> None:
        self._there = there
        self._home = home
        self._task: asyncio.Task[T] | None = None
        self.ended: asyncio.Future[T] = home.create_future()

    def start(self, work: Callable[[], Awaitable[T]]) -> None:
        self._task = self._there.create_task(_await(work))
        self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[T]) -> None:
        self._home.call_soon_threadsafe(_copy_outcome, task, self.ended)


class _Handover:
    """The writer's half of the log, as seen from the other loop."""

    def __init__(self, log: EventWriter, home: asyncio.AbstractEventLoop) -> None:
        self._log = log
        self._home = home
        self._waiting: deque[Event] = deque()
        self._rung = False

    @property
    def is_watched(self) -> bool:
        return self._log.is_watched

    def append(self, events: Sequence[Event]) -> None:
        self._waiting.extend(events)
        if not self._rung:
            self._rung = True
            self._home.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        self._rung = False  # before taking, or an event that comes in between waits for the next ring
        taken = []
        while self._waiting:
            taken.append(self._waiting.popleft())
        if taken:
            self._log.append(taken)


async def _await(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


async def _cancel_all() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=5)


def _copy_outcome(task: asyncio.Task[T], ended: asyncio.Future[T]) -> None:
    if ended.done():
        return
    if task.cancelled():
        ended.cancel()
    elif (problem := task.exception()) is not None:
        ended.set_exception(problem)
    else:
        ended.set_result(task.result())
