"""Threads with everything around them that their use cases and routes need, on a real database.

The graph side is a small implementation of `GraphStates`: its state is a JSON object, an update merges into it.
Import the fixtures where they are used.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from heddle_core.domain.errors import BadRequest
from heddle_core.domain.ids import RunId, ThreadId, new_run_id, uuid7
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.domain.run import CancelAction
from heddle_core.domain.thread import StateSummary
from heddle_core.memory.event_log import MemoryEventLog
from heddle_core.ports.graph_runtime import GraphInfo, StateUpdate, ThreadGraph, Updated
from heddle_core.usecases.context import Limits, Ports
from heddle_server.dsn import Dsn
from heddle_server.http.app import build_api
from heddle_server.http.options import HttpOptions
from heddle_server.storage.database import open_database
from heddle_server.storage.rows import Rows
from heddle_server.storage.unit_of_work import PostgresStorage


@dataclass(frozen=True)
class Tail:
    """What a state update leaves to be written: here one checkpoint."""

    run_id: UUID
    rows: Rows

    def take_tail(self) -> Rows:
        return self.rows


def a_tail(thread_id: ThreadId, checkpoint_id: str) -> Tail:
    run_id = uuid4()
    return Tail(run_id, Rows(checkpoints=[(run_id, str(thread_id), "", checkpoint_id, None, "{}", "{}")]))


@dataclass
class States:
    """Remembers what it was asked; refuses the node `nowhere`; stops with something left to do at node `ask`."""

    asked: list[tuple[object, ...]] = field(default_factory=list)
    values: dict[ThreadId, JsonObject] = field(default_factory=dict)
    never_answers: bool = False
    shows_values: bool = True

    async def get(self, graph: ThreadGraph, checkpoint: JsonObject | None, *, subgraphs: bool) -> Encoded:
        self.asked.append(("get", graph, checkpoint, subgraphs))
        state: JsonObject = {
            "values": self.values.get(graph.thread_id, {}),
            "next": [],
            "tasks": [],
            "checkpoint": checkpoint,
        }
        return Encoded(json.dumps(state).encode())

    async def history(self, graph: ThreadGraph, **bounds: object) -> Encoded:
        self.asked.append(("history", graph, bounds))
        return Encoded(json.dumps([{"values": {"a": 1, "b": 2}, "next": ["n"]}] * cast(int, bounds["limit"])).encode())

    async def output(self, graph: ThreadGraph, checkpoint_id: str) -> Encoded:
        raise NotImplementedError

    async def update(
        self, graph: ThreadGraph, checkpoint: JsonObject | None, updates: Sequence[Sequence[StateUpdate]]
    ) -> Updated:
        self.asked.append(("update", graph, checkpoint, updates))
        if self.never_answers:
            await asyncio.Event().wait()
        flat = [update for step in updates for update in step]
        if any(update.as_node == "nowhere" for update in flat):
            raise BadRequest("Node nowhere does not exist")
        values = dict(self.values.get(graph.thread_id, {}))
        for update in flat:
            values |= update.values or {}
        self.values[graph.thread_id] = values
        checkpoint_id = str(uuid7())
        return Updated(
            checkpoint={"thread_id": str(graph.thread_id), "checkpoint_ns": "", "checkpoint_id": checkpoint_id},
            ledger=a_tail(graph.thread_id, checkpoint_id),
            state=StateSummary(
                values=Encoded(json.dumps(values).encode()) if self.shows_values else None,
                has_next=flat[-1].as_node == "ask",
                checkpoint_id=checkpoint_id,
            ),
            snapshot=Encoded(b"{}"),
        )


@dataclass
class Local:
    stopped: list[RunId] = field(default_factory=list)

    def cancel(self, run_id: RunId, action: CancelAction) -> bool:
        self.stopped.append(run_id)
        return True

    def has(self, run_id: RunId) -> bool:
        return False


@dataclass
class Catalog:
    graphs: Mapping[str, GraphInfo] = field(
        default_factory=lambda: {"echo": GraphInfo(graph_id="echo", description=None)}
    )


@dataclass
class ThreadWorld:
    address: Dsn
    engine: AsyncEngine
    states: States = field(default_factory=States)
    local: Local = field(default_factory=Local)
    storage: PostgresStorage = field(init=False)
    ports: Ports = field(init=False)

    def __post_init__(self) -> None:
        self.storage = PostgresStorage(self.engine)
        here: dict[str, Any] = {
            "storage": self.storage,
            "states": self.states,
            "log": MemoryEventLog(),
            "local": self.local,
            "catalog": Catalog(),
            "limits": Limits(),
        }
        ports: dict[str, Any] = {each.name: here.get(each.name) for each in fields(Ports)}
        self.ports = Ports(**ports)

    def with_limits(self, *, state_update: float) -> Ports:
        return replace(self.ports, limits=Limits(state_update=timedelta(seconds=state_update)))

    async def sql(self, statement: str, **parameters: object) -> Any:
        async with self.engine.begin() as connection:
            done = await connection.execute(text(statement), parameters)
            return done.fetchall() if done.returns_rows else None

    async def a_run(self, thread_id: UUID, status: str = "running") -> RunId:
        """A run in flight, and its thread busy."""
        run_id = new_run_id()
        await self.sql(
            """INSERT INTO heddle.run (run_id, thread_id, assistant_id, graph_id, status, kwargs, multitask_strategy,
                                       lease_token)
               VALUES (:r, :t, gen_random_uuid(), 'echo', :s, '{}', 'enqueue',
                       CASE WHEN :s = 'running' THEN gen_random_uuid() END)""",
            r=run_id,
            t=thread_id,
            s=status,
        )
        await self.sql("UPDATE heddle.thread SET status = 'busy' WHERE thread_id = :t", t=thread_id)
        return run_id

    async def a_checkpoint(self, thread_id: UUID, *, run_id: UUID | None = None) -> str:
        """A checkpoint with a blob and a write."""
        checkpoint_id = str(uuid7())
        await self.sql(
            """WITH c AS (INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint, metadata)
                          VALUES (:t, :c, '{}', jsonb_build_object('thread_id', :t ::text, 'run_id', :r ::text))),
                    b AS (INSERT INTO checkpoint_blobs (thread_id, channel, version, type, blob)
                          VALUES (:t, 'messages', :c, 'msgpack', '\\x00'))
               INSERT INTO checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, type, blob)
               VALUES (:t, :c, 'task', 0, 'messages', 'msgpack', '\\x00')""",
            t=str(thread_id),
            c=checkpoint_id,
            r=str(run_id),
        )
        return checkpoint_id

    async def somebody_waits(self) -> None:
        """Until a statement on this database waits for a lock."""
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        async with asyncio.timeout(10):
            while not (await self.sql(sql))[0][0]:
                pass

    async def rows_of(self, thread_id: UUID) -> dict[str, int]:
        """How many rows the checkpoint tables and the run table have of a thread."""
        counts = {}
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "heddle.run"):
            found = await self.sql(f"SELECT count(*) FROM {table} WHERE thread_id::text = :t", t=str(thread_id))
            counts[table.removeprefix("heddle.")] = found[0][0]
        return counts


@pytest.fixture
async def world(database: Dsn) -> AsyncIterator[ThreadWorld]:
    async with open_database(database, budget=12) as opened:
        yield ThreadWorld(database, opened.engine)


@pytest.fixture
async def http(world: ThreadWorld) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server's whole HTTP side around these threads."""
    transport = httpx.ASGITransport(build_api(world.ports, HttpOptions()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
