"""Reads server-sent events as they are on the wire: frames with their event, data and id."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Frame:
    event: str
    data: Any
    id: str | None


async def frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """Frames of a stream; heartbeats are left out."""
    event, data, place = "", "", None
    async for line in response.aiter_lines():
        if not line:
            if event:
                yield Frame(event, json.loads(data), place)
            event, data, place = "", "", None
        elif line.startswith("event: "):
            event = line[7:]
        elif line.startswith("data: "):
            data = line[6:]
        elif line.startswith("id: "):
            place = line[4:]


async def stream(http: httpx.AsyncClient, method: str, url: str, **request: Any) -> list[Frame]:
    """All frames of a stream to its end."""
    async with http.stream(method, url, timeout=30, **request) as response:
        assert response.status_code == 200, await response.aread()
        return [frame async for frame in frames(response)]
