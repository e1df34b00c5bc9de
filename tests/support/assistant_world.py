"""The world of the tests of assistants and the store: a migrated Postgres, the server's HTTP side, a small catalog.

Import the fixtures where they are used. The engine, the event log and the graphs only take notes here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

import asyncpg
import httpx
import orjson
import pytest
from sqlalchemy import text

from heddle_cli.postgres import Running
from heddle_core.domain.ids import AssistantId, RunId, ThreadId
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.domain.run import CancelAction, RunStatus
from heddle_core.ports.graph_runtime import GraphInfo
from heddle_core.usecases.assistant_cache import AssistantCache
from heddle_core.usecases.context import Limits, Ports
from heddle_server.dsn import Dsn
from heddle_server.http.app import build_api
from heddle_server.http.options import HttpOptions
from heddle_server.storage.database import Database, open_database
from heddle_server.storage.tables import metadata
from heddle_server.storage.unit_of_work import PostgresStorage
from tests.support.postgres_server import fresh_database


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


@dataclass
class Notes:
    """What the engine and the event log of this process were told."""

    cancelled: list[tuple[RunId, CancelAction]] = field(default_factory=list)

    def has(self, run_id: RunId) -> bool:
        return False

    def cancel(self, run_id: RunId, action: CancelAction) -> bool:
        self.cancelled.append((run_id, action))
        return False

    def poke(self, run_id: RunId) -> None:
        pass


@dataclass
class World:
    database: Database
    storage: PostgresStorage
    catalog: Catalog
    notes: Notes
    ports: Ports

    async def add_thread(self, assistant_id: AssistantId | None = None) -> ThreadId:
        thread_id = ThreadId(uuid4())
        named = {} if assistant_id is None else {"assistant_id": str(assistant_id)}
        async with self.storage.begin() as unit:
            await unit.threads.insert(thread_id, Encoded(orjson.dumps(named)))
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
        async with self.database.engine.begin() as connection:
            result = await connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []


@pytest.fixture(scope="session")
def shared_database(postgres: Running, migrated_template: str) -> Iterator[Dsn]:
    """One database for all of these tests: `world` leaves it empty behind each."""
    with fresh_database(postgres, migrated_template) as database:
        yield database


@pytest.fixture
async def world(shared_database: Dsn) -> AsyncIterator[World]:
    async with open_database(shared_database, budget=8) as database:
        yield world_on(database)
        async with database.engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                await connection.execute(table.delete())


def world_on(database: Database) -> World:
    storage, catalog, notes = PostgresStorage(database.engine), Catalog(), Notes()
    told = cast(Any, notes)
    ports = Ports(
        storage=storage,
        assistants=AssistantCache(storage, catalog),
        queue=told,
        log=told,
        signals=told,
        states=told,
        catalog=catalog,
        local=told,
        clock=told,
        limits=Limits(),
    )
    return World(database, storage, catalog, notes, ports)


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_api(world.ports, HttpOptions()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


def pool_on(database: Dsn, **options: Any) -> Any:
    return asyncpg.create_pool(**database.asyncpg_kwargs(), min_size=0, max_size=6, **options)


@pytest.fixture
async def pool(shared_database: Dsn, world: World) -> AsyncIterator[Any]:
    async with pool_on(shared_database) as pool:
        yield pool
