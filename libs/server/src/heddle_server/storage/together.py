"""Several callers, one statement: whatever waits when a flight leaves goes with it.

The first to ask waits until the loop's next turn, so that those who ask in the same turn come along; while all flights
are in the air the next group gathers. So a statement carries more the busier the server is, and an idle one adds
nothing. Flights are tasks of this object: cancelling a caller never cuts a write short (it may be committed anyway).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Together", "Waiting", "Writes"]

_Ask = TypeVar("_Ask")
_Answer = TypeVar("_Answer")
_T = TypeVar("_T")


class Writes:
    """Tasks that run to their end whoever asked for them. `aclose` waits for all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)


@dataclass(slots=True)
class Waiting(Generic[_Ask, _Answer]):
    """One caller. Whoever sends it must bring its future to an end."""

    ask: _Ask
    future: asyncio.Future[_Answer]

    def answer(self, answer: _Answer) -> None:
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Together(Generic[_Ask, _Answer]):
    """`send` gets up to `most` callers at once, from at most `flights` tasks at a time."""

    def __init__(
        self,
        send: Callable[[Sequence[Waiting[_Ask, _Answer]]], Awaitable[None]],
        writes: Writes,
        *,
        most: int,
        flights: int,
    ) -> None:
        self._send = send
        self._writes = writes
        self._most = most
        self._free = flights
        self._called = False
        self._waiting: deque[Waiting[_Ask, _Answer]] = deque()

    def ask(self, ask: _Ask) -> asyncio.Future[_Answer]:
        """The answer to come. Shield it: it is not the caller's to cancel."""
        loop = asyncio.get_running_loop()
        waiting: Waiting[_Ask, _Answer] = Waiting(ask, loop.create_future())
        self._waiting.append(waiting)
        if self._free and not self._called:
            self._called = True
            loop.call_soon(self._leave)
        return waiting.future

    def _leave(self) -> None:
        self._called = False
        while self._free and self._waiting:
            group = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            self._free -= 1
            self._writes.start(self._fly(group))

    async def _fly(self, group: Sequence[Waiting[_Ask, _Answer]]) -> None:
        try:
            await self._send(group)
        except Exception as error:  # handed to those who asked, each of whom raises it
            for waiting in group:
                waiting.fail(error)
        finally:
            self._free += 1
            self._leave()
