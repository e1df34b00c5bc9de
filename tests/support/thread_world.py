"""Threads with everything around them that their use cases and routes need, on a real database.

The graph side is a small implementation of `GraphStates`: its state is a JSON object, an update merges into it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from heddle_core.domain.errors import BadRequest
from heddle_core.domain.ids import RunId, ThreadId, new_run_id, uuid7
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.domain.run import CancelAction
from heddle_core.domain.thread import StateSummary
from heddle_core.ports.graph_runtime import GraphInfo, StateUpdate, ThreadGraph, Updated
from heddle_core.ports.signals import Signal
from heddle_core.usecases.context import Limits, Ports
from heddle_server.storage.threads import ThreadRows


@dataclass(frozen=True)
class Rows:
    """One checkpoint, in the order of `heddle.write_rows`."""

    run_id: UUID
    thread_id: str
    checkpoint_id: str

    def parameters(self) -> list[list[object]]:
        checkpoint: tuple[object, ...] = (self.run_id, self.thread_id, "", self.checkpoint_id, None, "{}", "{}")
        return [*([each] for each in checkpoint), *([] for _ in range(17))]


@dataclass(frozen=True)
class Ledger:
    rows: Rows

    @property
    def run_id(self) -> UUID:
        return self.rows.run_id

    def take_tail(self) -> Rows:
        return self.rows


def a_ledger(thread_id: ThreadId, checkpoint_id: str) -> Ledger:
    return Ledger(Rows(uuid4(), str(thread_id), checkpoint_id))


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
            ledger=a_ledger(graph.thread_id, checkpoint_id),
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
class Runs:
    """The two queries of the runs repository that threads need."""

    connection: AsyncConnection

    async def inflight(self, thread_id: ThreadId) -> Sequence[Any]:
        sql = "SELECT run_id, status FROM heddle.run WHERE thread_id = :t AND status IN ('pending', 'running')"
        found = await self.connection.execute(text(sql), {"t": thread_id})
        return [SimpleNamespace(run_id=row.run_id, status=row.status) for row in found]

    async def cancel(self, runs: Sequence[Any], action: CancelAction) -> Sequence[RunId]:
        sql = "UPDATE heddle.run SET cancel_action = :a WHERE run_id = :r"
        for run in runs:
            await self.connection.execute(text(sql), {"a": action.value, "r": run.run_id})
        return [run.run_id for run in runs if run.status == "running"]


@dataclass
class Work:
    connection: AsyncConnection
    rung: list[Signal]

    @property
    def threads(self) -> ThreadRows:
        return ThreadRows(self.connection)

    @property
    def runs(self) -> Runs:
        return Runs(self.connection)

    async def ring(self, signal: Signal) -> None:
        self.rung.append(signal)


@dataclass
class SmallStorage:
    engine: AsyncEngine
    rung: list[Signal] = field(default_factory=list)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Work]:
        async with self.engine.begin() as connection:
            yield Work(connection, self.rung)

    @asynccontextmanager
    async def single(self) -> AsyncIterator[Work]:
        async with self.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            yield Work(connection, self.rung)


@dataclass
class Catalog:
    graphs: Mapping[str, GraphInfo] = field(
        default_factory=lambda: {"echo": GraphInfo(graph_id="echo", description=None)}
    )


@dataclass
class ThreadWorld:
    engine: AsyncEngine
    states: States = field(default_factory=States)
    local: Local = field(default_factory=Local)
    storage: SmallStorage = field(init=False)
    ports: Ports = field(init=False)

    def __post_init__(self) -> None:
        self.storage = SmallStorage(self.engine)
        here: dict[str, Any] = {
            "storage": self.storage,
            "states": self.states,
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
