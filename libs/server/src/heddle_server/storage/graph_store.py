"""The long-term store as graph code sees it: the same table as `/store`, over the server's own pool.

State: requests wait in `_waiting`; at most `LANES` tasks take all that wait at once and run them as one batch, so
operations of concurrent nodes share statements. Promise: a request is answered exactly once, and one that Postgres
refuses fails alone. The pool lives on the loop that entered the store; calls from any other loop or thread are
carried there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import asyncpg
from langgraph.store.base import BaseStore, Op, Result

from heddle_server.storage.failures import is_transient, unavailable
from heddle_server.storage.store_ops import Batch, Prepared, prepare

_CLOSED = "the store is closed: the server is starting or stopping"


LANES = 2
"""How many batches run at once, each on a connection of its own: the pool is small and serves the run engine, too."""


@dataclass(slots=True, eq=False)
class _Request:
    ops: Sequence[Prepared]
    answer: asyncio.Future[list[Result]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class GraphStore(BaseStore):
    """LangGraph's store without vectors and expiry; either of them asked for raises `NotSupportedByStore`.

    Enter it on the pool's loop before use; leaving it answers what is under way and refuses the rest.
    """

    supports_ttl = False

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool
        self._home: asyncio.AbstractEventLoop | None = None
        self._tasks = asyncio.TaskGroup()
        self._waiting: list[_Request] = []
        self._lanes = 0

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._home = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._home is not None:
            self._home = None
            try:
                await self._tasks.__aexit__(kind, error, trace)
            finally:
                _refuse(self._waiting, RuntimeError(_CLOSED))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        prepared = prepare(ops)
        home = self._open_home()
        if home is asyncio.get_running_loop():
            return await self._submit(prepared)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._submit(prepared), home))

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """For synchronous nodes, which run in worker threads. On the server's own loop it would wait for itself."""
        prepared = prepare(ops)
        home = self._open_home()
        if home is _running_loop():
            raise RuntimeError(
                "a synchronous store call would block the server's event loop: use aget, aput, asearch, adelete or "
                "alist_namespaces in async code"
            )
        return asyncio.run_coroutine_threadsafe(self._submit(prepared), home).result()

    def _open_home(self) -> asyncio.AbstractEventLoop:
        if self._home is None:
            raise RuntimeError(_CLOSED)
        return self._home

    async def _submit(self, ops: Sequence[Prepared]) -> list[Result]:
        self._open_home()  # it may have closed while the call crossed over
        request = _Request(ops)
        self._waiting.append(request)
        if self._lanes < LANES:
            self._lanes += 1
            self._tasks.create_task(self._serve_waiting())
        return await request.answer

    async def _serve_waiting(self) -> None:
        try:
            while self._waiting:
                requests, self._waiting = self._waiting, []
                await self._serve([request for request in requests if not request.answer.done()])
        finally:
            self._lanes -= 1

    async def _serve(self, requests: Sequence[_Request]) -> None:
        if not requests:
            return
        try:
            answers = await Batch([request.ops for request in requests]).execute(self._pool)
        except Exception as error:  # it belongs to the callers, who raise it; here it would stop the server
            if len(requests) == 1 or _is_away(error):
                _refuse(requests, unavailable(error) if is_transient(error) else error)
            else:
                for request in requests:
                    await self._serve([request])
        except BaseException:
            _refuse(requests, RuntimeError(_CLOSED))
            raise
        else:
            for request, answer in zip(requests, answers, strict=True):
                if not request.answer.done():
                    request.answer.set_result(answer)


def _refuse(requests: Iterable[_Request], error: Exception) -> None:
    for request in requests:
        if not request.answer.done():
            request.answer.set_exception(error)


def _is_away(error: Exception) -> bool:
    """Would it be the same for each request alone? Not so a deadlock, which only passes by itself."""
    return is_transient(error) and not isinstance(error, asyncpg.exceptions.TransactionRollbackError)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
