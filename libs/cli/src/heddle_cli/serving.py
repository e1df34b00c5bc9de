"""One server process: uvicorn around an ASGI app, with a start that explains itself and a stop that drains.

Stopping: the first SIGINT or SIGTERM tells the app to take no more work (`app.state.begin_drain()`, if it has
that), closes the port and lets the app finish (`await app.state.drain(seconds)`, if it has that) while open
responses go on; those that stream a run end with it. Then the app's lifespan ends. uvicorn waits longer for open
responses than the drain takes, so it cannot cut it short. The second signal ends the process at once: runs are
rows under a lease, so nothing is lost, only late.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from heddle_cli import collector

_log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_MARGIN = 2.0  # what open responses get to end after the drain
_FIRST_WORDS = 1.0  # what a new connection gets to send its request when the server stops


class StartFailed(Exception):
    """The app's lifespan did not come up; the cause says why."""


def serve(app: App, listener: socket.socket, *, grace: float, on_ready: Callable[[], None]) -> None:
    """Serve until a signal says stop. Raises StartFailed, with the cause, when the app does not start."""
    guarded = _Lifespan(app)
    config = uvicorn.Config(
        guarded,
        lifespan="on",
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        http=_Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=math.ceil(grace + _MARGIN),
    )
    logging.getLogger("uvicorn.error").addFilter(_says_something)
    server = _Server(config, app, grace, on_ready)
    try:
        server.run(sockets=[listener])
    except SystemExit:
        if guarded.failure is None:
            raise
    if guarded.failure is not None:
        raise StartFailed from guarded.failure


class _Connection(HttpToolsProtocol):
    """A connection that was accepted just before the stop is answered, too.

    uvicorn would close it, because it has not asked anything yet; its request may be on the way.
    """

    _is_last = False

    @property
    def _has_asked(self) -> bool:
        return cast(object, self.cycle) is not None

    def shutdown(self) -> None:
        if self._has_asked:
            super().shutdown()
            return
        self._is_last = True
        self.loop.call_later(_FIRST_WORDS, self._close_unless_asked)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._is_last and self._has_asked:
            self.cycle.keep_alive = False

    def _close_unless_asked(self) -> None:
        if not self._has_asked:
            self.transport.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: App, grace: float, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._state = getattr(app, "state", None)
        self._grace = grace
        self._on_ready = on_ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        collector.spare_what_stays()
        if not self.should_exit:
            self._on_ready()

    async def main_loop(self) -> None:
        """uvicorn looks ten times a second whether to stop; here the signal says so, and a look a second is enough."""
        tenths = 0
        while not await self.on_tick(tenths):
            tenths += 10
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        drain = getattr(self._state, "drain", None)
        async with asyncio.TaskGroup() as stopping:
            if drain is not None:
                stopping.create_task(drain(self._grace))
            stopping.create_task(super().shutdown(sockets))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again at its end, which skips everything after `run`.
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True
        begin_drain = getattr(self._state, "begin_drain", None)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            if begin_drain is not None:
                self._loop.call_soon_threadsafe(begin_drain)
        _log.info("server_stopping", extra={"signal": signal.Signals(sig).name})


def _says_something(record: logging.LogRecord) -> bool:
    """False for uvicorn's word on a failed start: the caller says why it failed."""
    return not str(record.msg).startswith("Application startup failed")


class _Lifespan:
    """Keeps the exception of a failed start, which uvicorn would print as a traceback."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.failure: Exception | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        answered: list[str] = []

        async def quietly(message: Message) -> None:
            answered.append(message["type"])
            if message["type"].endswith(".failed"):
                message = {"type": message["type"], "message": ""}
            await send(message)

        try:
            await self._app(scope, receive, quietly)
        except Exception as error:
            if "lifespan.startup.complete" in answered:
                _log.exception("server_stop_failed")
                raise
            self.failure = error
            if not answered:
                await send({"type": "lifespan.startup.failed", "message": ""})
        if "lifespan.startup.failed" in answered and self.failure is None:
            self.failure = RuntimeError("the application refused to start")
