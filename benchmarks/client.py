"""A small HTTP client that costs little, so that the machine's cores are the server's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson


class Connection:
    """One keep-alive connection. Requests go one after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def close(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None

    async def _send(self, method: str, path: str, body: Any) -> asyncio.StreamReader:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        data = b"" if body is None else orjson.dumps(body)
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        self._writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        assert self._reader is not None
        return self._reader

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer. Raises for anything but success."""
        parts = [part async for part in self._body(method, path, body)]
        text = b"".join(parts)
        return orjson.loads(text) if text else None

    async def stream(self, path: str, body: Any) -> tuple[int, float]:
        """Number of events, and seconds to the first byte of the body."""
        events, first = 0, 0.0
        started = time.perf_counter()
        async for part in self._body("POST", path, body):
            if not first:
                first = time.perf_counter() - started
            events += part.count(b"event:")
        return events, first

    async def first_byte_of(self, path: str, body: Any, marker: bytes) -> float:
        """Seconds until `marker` is in the body; reads to the end."""
        started = time.perf_counter()
        found = 0.0
        async for part in self._body("POST", path, body):
            if not found and marker in part:
                found = time.perf_counter() - started
        return found

    async def _body(self, method: str, path: str, body: Any) -> AsyncIterator[bytes]:
        reader = await self._send(method, path, body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        if "transfer-encoding: chunked" in head:
            while size := int((await reader.readline()).split(b";")[0], 16):
                yield await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        elif "content-length: " in head:
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            if length:
                yield await reader.readexactly(length)
        elif status != 204:
            while part := await reader.read(1 << 16):
                yield part
            await self.close()
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status}")
        if "connection: close" in head:
            await self.close()


class Clients:
    """A fixed number of connections that share a pile of work."""

    def __init__(self, port: int, count: int) -> None:
        self.connections = [Connection(port) for _ in range(count)]

    async def do(self, times: int, work: Any) -> None:
        """Call `work(connection)` so many times over all connections."""
        left = iter(range(times))

        async def loop(connection: Connection) -> None:
            for _ in left:
                await work(connection)

        await asyncio.gather(*(loop(connection) for connection in self.connections))

    async def close(self) -> None:
        for connection in self.connections:
            await connection.close()
