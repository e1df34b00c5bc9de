"""What is noted about each request: its id, one line in the log, one count in the metrics."""

from __future__ import annotations

import logging
import re
from time import perf_counter
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heddle_server.http.answers import json_answer
from heddle_server.http.metrics import RequestMetrics

log = logging.getLogger(__name__)

_HARMLESS = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_READS = ("/search", "/count", "/history")


class Observe:
    """The outermost layer. Routes find the id in `request.state.request_id`. An error that nothing below it answered
    becomes a plain 500 here, and is logged once."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        name = _request_id(scope)
        scope["state"] = {**scope.get("state", {}), "request_id": name}
        # Whatever is logged for this request carries its id, and so does what its run logs: tasks inherit it.
        bound = structlog.contextvars.bind_contextvars(request_id=name)
        header = (b"x-request-id", name.encode())
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:  # the edge of the server: whatever is wrong, the client gets an answer and we a trace
            log.exception("request_failed", extra={"method": scope["method"], "path": scope["path"]})
            if not status:
                await json_answer({"detail": "Internal Server Error"}, status=500)(scope, receive, noted)
        finally:
            self._note(scope, status, perf_counter() - started)
            structlog.contextvars.reset_contextvars(**bound)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method: str = scope["method"]
        route = scope.get("route")
        self._metrics.count(method, route.path_format if route is not None else "unmatched", status, seconds)
        level = _level(method, scope["path"], status)
        if log.isEnabledFor(level):
            fields = {
                "method": method,
                "path": scope["path"],
                "status": status,
                "duration_ms": round(seconds * 1000, 2),
            }
            log.log(level, "request", extra=fields)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return str(value.decode()) if _HARMLESS.fullmatch(value) else str(uuid4())
    return str(uuid4())


def _level(method: str, path: str, status: int) -> int:
    if status >= 500:
        return logging.WARNING
    if method in ("GET", "HEAD", "OPTIONS") or path.rstrip("/").endswith(_READS):
        return logging.DEBUG
    return logging.INFO
