"""Who may call a server that has no auth handler: programs, and pages that the owner trusts.

Any web page can send requests to a loopback port from its visitor's browser. The browser says which page it was
(`Origin`) and under which name it found us (`Host`, which a rebound DNS name cannot fake), so we look at both.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from heddle_server.http.answers import json_answer
from heddle_server.http.options import HOSTED_STUDIO


class Guard:
    """Refuses foreign hosts (421) and foreign origins (403) before any work is done."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        allow_hosts: frozenset[str],
        allow_origins: frozenset[str],
        origin_pattern: str | None = None,
    ) -> None:
        self._app = app
        self._pattern = None if origin_pattern is None else re.compile(origin_pattern)
        self._hosts = frozenset(h.lower() for h in allow_hosts)
        self._origins = frozenset(o.lower().rstrip("/") for o in allow_origins) | {HOSTED_STUDIO}
        self._refusal = lru_cache(maxsize=1024)(self._judge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        refusal = self._refusal(host, origin)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
        else:
            status, detail = refusal
            await json_answer({"detail": detail}, status=status, headers={"vary": "Origin"})(scope, receive, send)

    def _judge(self, host: bytes | None, origin: bytes | None) -> tuple[int, str] | None:
        authority = (host or b"").decode("latin-1").lower()
        if host is not None and not self._is_our_name(authority):
            return (
                421,
                f"This server does not answer for the host {authority!r}. Name it in ALLOWED_HOSTS to permit it.",
            )
        if origin is not None:
            page = origin.decode("latin-1").lower()
            if not self._may_call(page, authority):
                return 403, f"Pages of {page!r} may not call this server. Name it in CORS_ALLOW_ORIGINS to permit it."
        return None

    def _is_our_name(self, authority: str) -> bool:
        name = _host_of(f"//{authority}")
        return "*" in self._hosts or is_loopback(name) or name in self._hosts or authority in self._hosts

    def _may_call(self, page: str, authority: str) -> bool:
        if "*" in self._origins or page in self._origins:
            return True
        if self._pattern is not None and self._pattern.fullmatch(page):
            return True
        return is_loopback(_host_of(page)) or page in (f"http://{authority}", f"https://{authority}")


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def is_loopback(name: str | None) -> bool:
    if not name:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
