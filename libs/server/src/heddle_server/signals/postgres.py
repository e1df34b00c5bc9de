"""Signals over LISTEN and NOTIFY: one connection per process, any number of listeners.

The payload is `kind` or `kind run_id`. While the connection is down nothing is heard; when it is up again every
listener gets `wake` and looks for itself. The connection must be a direct one: a transaction pooler forgets LISTEN.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any
from uuid import UUID

import asyncpg

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.ids import RunId
from heddle_core.ports.signals import Signal, SignalKind

__all__ = ["PostgresSignals"]

_log = logging.getLogger(__name__)

CHANNEL = "heddle"
_WAKE = Signal(SignalKind.WAKE)
_KEPT = 1000
_CHECK_SECONDS = 20.0
_ANSWER_SECONDS = 5.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


class _Listener:
    """One reader's signals. When it falls far behind, what it missed becomes one `wake`."""

    def __init__(self, owner: set[_Listener]) -> None:
        self._owner = owner
        self._heard: deque[Signal] = deque()
        self._rung = asyncio.Event()
        self._closed = False
        owner.add(self)

    def hear(self, signal: Signal) -> None:
        if len(self._heard) >= _KEPT:
            self._heard.clear()
            signal = _WAKE
        self._heard.append(signal)
        self._rung.set()

    def __aiter__(self) -> _Listener:
        return self

    async def __anext__(self) -> Signal:
        while not self._heard:
            if self._closed:
                raise StopAsyncIteration
            self._rung.clear()
            await self._rung.wait()
        return self._heard.popleft()

    async def aclose(self) -> None:
        self._closed = True
        self._owner.discard(self)
        self._rung.set()


class PostgresSignals:
    """Listens inside `async with`. Entering connects, or raises `Unavailable`; later losses heal by themselves.

    `connect` are arguments of `asyncpg.connect`. Leaving ends every listener.
    """

    def __init__(self, connect: Mapping[str, Any], *, application_name: str = "heddle signals") -> None:
        settings = {**connect.get("server_settings", {}), "application_name": application_name}
        # LISTEN needs no prepared statement, and a stray pooler no reason to refuse one.
        self._connect = {"timeout": 10, **connect, "server_settings": settings, "statement_cache_size": 0}
        self._listeners: set[_Listener] = set()
        self._task: asyncio.Task[None] | None = None

    def listen(self) -> AsyncIterator[Signal]:
        return _Listener(self._listeners)

    async def __aenter__(self) -> PostgresSignals:
        lost = asyncio.Event()
        try:
            connection = await self._open(lost)
        except _FAILURES as error:
            raise Unavailable(f"cannot listen for signals on the database: {type(error).__name__}: {error}") from error
        self._task = asyncio.create_task(self._keep(connection, lost), name="signals")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        for listener in tuple(self._listeners):
            await listener.aclose()

    async def _open(self, lost: asyncio.Event) -> asyncpg.Connection[Any]:
        connection = await asyncpg.connect(**self._connect)
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, self._notified)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _keep(self, connection: asyncpg.Connection[Any], lost: asyncio.Event) -> None:
        while True:
            try:
                await self._until_lost(connection, lost)
            finally:
                connection.terminate()
            _log.warning("signals_lost")
            connection, lost = await self._again()
            _log.info("signals_restored")
            self._tell(_WAKE)

    async def _until_lost(self, connection: asyncpg.Connection[Any], lost: asyncio.Event) -> None:
        """A connection whose other end vanished without a word is found by asking it something now and then."""
        while not lost.is_set():
            try:
                async with asyncio.timeout(_CHECK_SECONDS):
                    await lost.wait()
            except TimeoutError:
                try:
                    await connection.fetchval("SELECT 1", timeout=_ANSWER_SECONDS)
                except _FAILURES:
                    return

    async def _again(self) -> tuple[asyncpg.Connection[Any], asyncio.Event]:
        pause = _FIRST_PAUSE
        while True:
            lost = asyncio.Event()
            try:
                return await self._open(lost), lost
            except _FAILURES as error:
                _log.debug("signals_still_lost", extra={"problem": str(error)})
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _notified(self, connection: object, pid: int, channel: str, payload: object) -> None:
        signal = _parse(str(payload))
        if signal is None:
            _log.debug("signal_unknown", extra={"payload": str(payload)[:100]})
        else:
            self._tell(signal)

    def _tell(self, signal: Signal) -> None:
        for listener in tuple(self._listeners):
            listener.hear(signal)


def _parse(payload: str) -> Signal | None:
    kind, _, run_id = payload.partition(" ")
    try:
        return Signal(SignalKind(kind), RunId(UUID(run_id)) if run_id else None)
    except ValueError:
        return None
