"""Cross-origin headers for browsers. Which origins may call at all is the guard's business."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

EXPOSED = b"content-location, location, x-pagination-total, x-pagination-next, x-request-id, retry-after"
METHODS = b"GET, POST, PUT, PATCH, DELETE, OPTIONS"
USUAL_HEADERS = b"authorization, content-type, last-event-id, x-api-key, x-auth-scheme, x-csrf-token, x-request-id"

_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,2048}")


class Cors:
    """Answers preflights, private-network ones included, and marks every answer, errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = _header(scope, b"origin")
        if origin is not None and scope["method"] == "OPTIONS" and _header(scope, b"access-control-request-method"):
            await send({"type": "http.response.start", "status": 200, "headers": _preflight(scope, origin)})
            await send({"type": "http.response.body", "body": b""})
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                _mark(message, origin)
            await send(message)

        await self._app(scope, receive, marked)


def _mark(message: Message, origin: bytes | None) -> None:
    headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
    headers.append((b"vary", b"Origin"))
    if origin is not None:
        headers.append((b"access-control-allow-origin", origin))
        headers.append((b"access-control-expose-headers", EXPOSED))
    message["headers"] = headers


def _preflight(scope: Scope, origin: bytes) -> list[tuple[bytes, bytes]]:
    asked = _header(scope, b"access-control-request-headers")
    headers = [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", METHODS),
        (b"access-control-allow-headers", asked if asked and _HEADER_NAMES.fullmatch(asked) else USUAL_HEADERS),
        (b"access-control-max-age", b"600"),
        (b"vary", b"Origin, Access-Control-Request-Headers, Access-Control-Request-Private-Network"),
        (b"content-length", b"0"),
    ]
    if _header(scope, b"access-control-request-private-network") == b"true":
        headers.append((b"access-control-allow-private-network", b"true"))
    return headers


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value)
    return None
