"""Keeps guest code from taking the process down, and gives each event loop what guests need.

asyncio re-raises `SystemExit` and `KeyboardInterrupt` of a task out of the event loop, which would end the server.
LangGraph runs nodes in tasks of its own, so on a prepared loop every task that is started while a guest is running
has these two turned into an ordinary error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config

_SPARE_THREADS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Whose code is running: named in warnings about a blocked loop."""

    run_id: str
    graph_id: str


class GuestExit(Exception):
    """A guest tried to end the process."""

    def __init__(self, attempt: BaseException) -> None:
        super().__init__(str(attempt))
        self.attempt = attempt


_current: ContextVar[Guest | None] = ContextVar("heddle_guest", default=None)


@contextmanager
def hosting(guest: Guest) -> Iterator[None]:
    """Everything started in this block is the guest's. It is not a child of a graph that may have called us."""
    outer = var_child_runnable_config.set(None)
    token = _current.set(guest)
    try:
        yield
    finally:
        _current.reset(token)
        var_child_runnable_config.reset(outer)


@contextmanager
def outside_any_graph() -> Iterator[None]:
    """LangGraph takes a call made inside a node for a child of that node's graph; in this block it does not."""
    outer = var_child_runnable_config.set(None)
    try:
        yield
    finally:
        var_child_runnable_config.reset(outer)


def prepare_loop(loop: asyncio.AbstractEventLoop, *, slots: int) -> ThreadPoolExecutor:
    """Make a loop fit for guests: threads for the synchronous nodes of `slots` runs, and contained tasks.

    The executor is the loop's default one; give both to `leave_loop` when the guests are gone.
    """
    executor = ThreadPoolExecutor(max_workers=slots + _SPARE_THREADS, thread_name_prefix="heddle-node")
    loop.set_default_executor(executor)
    make = loop.get_task_factory() or _plain_task

    def contained(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        guest = _current.get()
        if guest is not None and asyncio.iscoroutine(coroutine):
            coroutine = contain(coroutine, guest)
        return make(loop, coroutine, **options)

    loop.set_task_factory(contained)
    return executor


def leave_loop(loop: asyncio.AbstractEventLoop, executor: ThreadPoolExecutor) -> None:
    """Take the guests' threads from a loop. One that still works is left to itself: its run has been given back.

    The loop gets a fresh executor, because it waits for the threads of its default one when it closes.
    """
    loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="heddle"))
    executor.shutdown(wait=False, cancel_futures=True)


def _plain_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop, **options)


async def contain(coroutine: Coroutine[Any, Any, Any] | Generator[Any, Any, Any], guest: Guest) -> Any:
    """Await a guest's coroutine. `guest` is here to be read from the stack of a blocked thread."""
    try:
        return await coroutine  # type: ignore[misc]
    except (SystemExit, KeyboardInterrupt) as attempt:
        raise GuestExit(attempt) from attempt
