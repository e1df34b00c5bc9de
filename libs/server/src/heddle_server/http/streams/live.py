"""Answers that take as long as a run: headers at once, a sign of life every few seconds, an eye on the client.

The request's own task writes. One task per answer waits for the client to leave. The process has one timer; at each
tick it lets every open answer write its sign of life in a task of that answer, so that a client which does not read
holds up nobody but itself.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from fastapi import Response
from starlette.types import Receive, Scope, Send

from heddle_core.domain.errors import NotFound, Unavailable

log = logging.getLogger(__name__)

OnGone = Callable[[], Awaitable[None]]


class _ClientGone(Exception):
    """The client closed the connection. Not an error: it is how clients leave."""


class Heartbeat:
    """One timer for all open answers of a process. It runs only while there are any."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: set[Line] = set()
        self._timer: asyncio.TimerHandle | None = None

    def join(self, line: Line) -> None:
        self._open.add(line)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(loop.time() + self._seconds, self._tick)

    def leave(self, line: Line) -> None:
        self._open.discard(line)
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due = self._timer.when() if self._timer else loop.time()
        self._timer = loop.call_at(max(due, loop.time() - self._seconds) + self._seconds, self._tick)
        for line in tuple(self._open):
            line.beat()


class Line:
    """The way to one client."""

    def __init__(self, send: Send, tasks: asyncio.TaskGroup, sign: bytes) -> None:
        self._send = send
        self._tasks = tasks
        self._sign = sign
        self._is_writing = False
        self._beating: asyncio.Task[None] | None = None

    async def write(self, data: bytes) -> None:
        self._is_writing = True
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        finally:
            self._is_writing = False

    def beat(self) -> None:
        """Show that we live, unless the client has not taken what it was sent before."""
        if self._is_writing or (self._beating is not None and not self._beating.done()):
            return
        sign = self._beat()
        try:
            self._beating = self._tasks.create_task(sign)
        except RuntimeError:  # the answer is ending at this very moment: it needs no sign of life
            sign.close()

    async def _beat(self) -> None:
        await self._send({"type": "http.response.body", "body": self._sign, "more_body": True})

    def stop(self) -> None:
        if self._beating is not None:
            self._beating.cancel()


class LiveResponse(Response, ABC):
    """An answer that is written while a run goes on. `on_gone` is called when the client leaves before its end."""

    sign: bytes

    def __init__(self, heartbeat: Heartbeat, headers: dict[str, str], media_type: str, on_gone: OnGone | None) -> None:
        super().__init__(None, 200, headers, media_type)
        del self.headers["content-length"]
        self._heartbeat = heartbeat
        self._on_gone = on_gone
        self._is_over = False

    @abstractmethod
    async def write_to(self, line: Line) -> bytes:
        """Write all but the last bytes, and return those."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve(receive, send)
        except* _ClientGone:
            if self._on_gone is not None and not self._is_over:
                await self._on_gone()

    async def _serve(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(_watch(receive))
            line = Line(send, tasks, self.sign)
            self._heartbeat.join(line)
            try:
                last = await self.write_to(line)
            finally:
                self._heartbeat.leave(line)
                line.stop()
            self._is_over = True
            await send({"type": "http.response.body", "body": last, "more_body": False})
            watch.cancel()


async def _watch(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _ClientGone


async def forgiving(cancel: Awaitable[None]) -> None:
    """Cancel the run of a client that left; it may have ended by itself, and nobody is there to be told."""
    try:
        await cancel
    except NotFound:
        pass
    except Unavailable as error:
        log.warning("cancel_on_disconnect_failed", extra={"reason": error.message})
