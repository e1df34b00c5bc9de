"""What creating, reading and searching threads costs: CPU of this process and of its database sessions, per call.

    python -m benchmarks.threads

With 10 000 threads, on an embedded database of its own. The application is called
 without a socket: the HTTP server's own parsing comes on top.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any
from uuid import uuid4

import psutil
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.database import server
from heddle_core.domain.json import Encoded
from heddle_core.domain.thread import Page, ThreadFilter
from heddle_core.usecases import threads
from heddle_core.usecases.context import Limits, Ports
from heddle_server.dsn import Dsn
from heddle_server.http.routes import threads as routes
from heddle_server.storage.migrate import upgrade
from heddle_server.storage.unit_of_work import PostgresStorage

MANY = 10_000
MARK = "thread-benchmark"

Call = Callable[[], Awaitable[object]]


def application(ports: Ports) -> FastAPI:
    app = FastAPI()
    app.state.ports = ports
    app.include_router(routes.router)
    return app


def posting(app: FastAPI, path: str, body: object) -> Call:
    """A POST, as the HTTP server would hand it to the application."""
    content = json.dumps(body).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise RuntimeError(f"{path} answered {message['status']}")

    async def call() -> None:
        await app(dict(scope), receive, send)  # type: ignore[arg-type]

    return call


async def sessions(engine: AsyncEngine) -> list[psutil.Process]:
    async with engine.connect() as connection:
        found = await connection.execute(
            text("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> 0")
        )
        return [psutil.Process(pid) for (pid,) in found]


async def measure(engine: AsyncEngine, name: str, call: Call, times: int) -> None:
    for _ in range(max(times // 10, 10)):
        await call()
    backends = await sessions(engine)
    there = sum(sum(each.cpu_times()[:2]) for each in backends)
    here, started = time.process_time(), time.perf_counter()
    for _ in range(times):
        await call()
    wall, here = time.perf_counter() - started, time.process_time() - here
    there = sum(sum(each.cpu_times()[:2]) for each in backends) - there
    ours, database = here / times * 1e6, there / times * 1e6
    print(f"{name:58} {ours + database:7.0f} us CPU ({ours:5.0f} + {database:5.0f})  {wall / times * 1e6:7.0f} us wall")


async def fill(engine: AsyncEngine) -> None:
    """Threads with a title and a short conversation; one in a hundred belongs to `owner`."""
    statement = """
        INSERT INTO heddle.thread (thread_id, metadata, "values", created_at, updated_at)
        SELECT gen_random_uuid(),
               jsonb_build_object('benchmark', CAST(:mark AS text), 'graph_id', 'echo', 'owner', n % 100),
               jsonb_build_object('messages', jsonb_build_array(
                   jsonb_build_object('type', 'human', 'content', repeat('hello ', 20), 'id', n::text),
                   jsonb_build_object('type', 'ai', 'content', repeat('world ', 40), 'id', n::text))),
               now() - n * interval '1 second', now() - n * interval '1 second'
          FROM generate_series(1, :many) AS n
    """
    async with engine.begin() as connection:
        await connection.execute(text(statement), {"mark": MARK, "many": MANY})
    # What autovacuum does in time: statistics, and the index entries that an insert left in the pending list.
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("VACUUM ANALYZE heddle.thread"))


async def table(address: Dsn) -> None:
    await upgrade(address)
    engine = create_async_engine(
        address.sqlalchemy_url(),
        pool_size=2,
        connect_args={"server_settings": {"plan_cache_mode": "force_custom_plan"}},
    )
    given: dict[str, Any] = {"storage": PostgresStorage(engine), "limits": Limits()}
    parts: dict[str, Any] = {each.name: given.get(each.name) for each in fields(Ports)}
    ports = Ports(**parts)
    app = application(ports)
    all_of_them: dict[str, object] = {"benchmark": MARK, "graph_id": "echo"}
    await fill(engine)
    try:
        create = threads.CreateThread(metadata=Encoded(json.dumps({"benchmark": MARK, "n": str(uuid4())}).encode()))
        await measure(engine, "create (use case)", lambda: threads.create(ports, create), 1000)
        body = {"metadata": {"benchmark": MARK}}
        await measure(engine, "POST /threads", posting(app, "/threads", body), 1000)
        for name, metadata in [("one in 100", all_of_them | {"owner": 7}), ("all", all_of_them)]:
            wanted = ThreadFilter(metadata=Encoded(json.dumps(metadata).encode()))
            page = Page(limit=100, sort_by="updated_at")
            title = f"search 100 of {MANY}, {name} match"
            await measure(engine, f"{title} (use case)", lambda w=wanted, p=page: threads.search(ports, w, p), 200)  # type: ignore[misc]
            search = {"metadata": metadata, "limit": 100}
            await measure(engine, f"{title}, POST", posting(app, "/threads/search", search), 200)
            search |= {"select": ["thread_id", "metadata", "status", "updated_at"]}
            await measure(engine, f"{title}, select without values", posting(app, "/threads/search", search), 200)
    finally:
        await engine.dispose()


def main() -> None:
    with server() as running:
        asyncio.run(table(running.address()))


if __name__ == "__main__":
    main()
