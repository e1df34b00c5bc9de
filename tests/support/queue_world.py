"""A migrated database of its own, with the run queue on it and the few moves that tests of runs are made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import orjson

from heddle_core.domain.ids import AssistantId, RunId, ThreadId, new_run_id, new_thread_id
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import IfNotExists, NewRun, RunKwargs
from heddle_core.ports.run_queue import Claim
from heddle_server.dsn import Dsn
from heddle_server.storage.database import Database, open_database
from heddle_server.storage.rows import WriteRow
from heddle_server.storage.run_queue import PostgresRunQueue
from heddle_server.storage.runs import RunRows

T = TypeVar("T")
LEASE = timedelta(seconds=30)
ASSISTANT = AssistantId(UUID("00000000-0000-0000-0000-00000000a551"))
DEADLINE = 10.0


def new_run(thread_id: ThreadId | None = None, **given: Any) -> NewRun:
    kwargs = given.pop("kwargs", None) or RunKwargs(input={"n": 1}, config={})
    fields: dict[str, Any] = {
        "run_id": new_run_id(),
        "thread_id": thread_id or new_thread_id(),
        "assistant_id": ASSISTANT,
        "assistant_version": 1,
        "graph_id": "echo",
        "metadata": Encoded(b'{"who": "run"}'),
        "kwargs": kwargs,
        "if_not_exists": IfNotExists.CREATE,
    }
    return NewRun(**(fields | given))


async def soon(look: Callable[[], Awaitable[T | None]]) -> T:
    """What `look` finds, as soon as it finds something; an error when the deadline passes."""
    async with asyncio.timeout(DEADLINE):
        while (found := await look()) is None or found is False:
            await asyncio.sleep(0.005)
        return found


@dataclass
class QueueWorld:
    address: Dsn
    database: Database
    queue: PostgresRunQueue

    async def sql(self, statement: str, *arguments: Any) -> list[Any]:
        return await self.database.pool.fetch(statement, *arguments)

    async def one(self, statement: str, *arguments: Any) -> Any:
        return await self.database.pool.fetchval(statement, *arguments)

    async def deadlocks(self) -> int:
        """How many there were. The queue repeats a statement that met one, so no error need be seen by its callers."""
        async with AsyncExitStack() as held:
            for _ in range(self.database.pool.get_size()):
                connection = await held.enter_async_context(self.database.pool.acquire())
                await connection.execute("SELECT pg_stat_force_next_flush()")
        return int(await self.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))

    async def opened(self, new: NewRun | None = None, *, lease: timedelta = LEASE) -> Claim:
        claim = await self.queue.open(new or new_run(), lease=lease)
        assert isinstance(claim, Claim), claim
        return claim

    async def claimed(self, free: int = 10) -> tuple[Claim, ...]:
        return (await self.queue.claim(free, lease=LEASE)).claims

    async def enqueued(self, new: NewRun) -> RunId:
        """A pending run, by the ordinary way in."""
        async with self.runs() as runs:
            await self.sql(
                "INSERT INTO heddle.thread (thread_id, ephemeral) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                new.thread_id,
                new.ephemeral,
            )
            return (await runs.insert(new)).run_id

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[RunRows]:
        async with self.database.engine.begin() as connection:
            yield RunRows(connection)

    async def let_the_lease_lapse(self, *claims: Claim) -> None:
        await self.sql(
            "WITH l AS MATERIALIZED (SELECT run_id FROM heddle.run WHERE run_id = ANY ($1) ORDER BY run_id FOR UPDATE)"
            " UPDATE heddle.run r SET lease_until = now() - interval '1 second' FROM l WHERE r.run_id = l.run_id",
            [claim.run_id for claim in claims],
        )

    async def checkpoint(self, thread_id: ThreadId, checkpoint_id: str, run_id: UUID | None = None) -> None:
        metadata = orjson.dumps({"run_id": str(run_id)} if run_id else {}).decode()
        await self.sql(
            "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)"
            " VALUES ($1, '', $2, $3, $4)",
            str(thread_id),
            checkpoint_id,
            orjson.dumps({"v": 4, "id": checkpoint_id, "channel_versions": {}, "channel_values": {}}).decode(),
            metadata,
        )

    async def run_row(self, run_id: UUID) -> Any:
        return await self.database.pool.fetchrow("SELECT * FROM heddle.run WHERE run_id = $1", run_id)

    async def thread_row(self, thread_id: UUID) -> Any:
        return await self.database.pool.fetchrow("SELECT * FROM heddle.thread WHERE thread_id = $1", thread_id)


@asynccontextmanager
async def queue_world(address: Dsn, *, budget: int = 10) -> AsyncIterator[QueueWorld]:
    """On a migrated database, which gets an assistant."""
    async with open_database(address, budget=budget) as database:
        await database.pool.execute(
            "INSERT INTO heddle.assistant (assistant_id, graph_id, name) VALUES ($1, 'echo', 'echo')", ASSISTANT
        )
        queue = PostgresRunQueue(database.pool)
        try:
            yield QueueWorld(address, database, queue)
        finally:
            await queue.aclose()


def a_write(claim: Claim, task: str, channel: str = "ch") -> WriteRow:
    """A row of checkpoint_writes, as a run's ledger holds it."""
    return (claim.run_id, str(claim.thread_id), "", "c", task, "", 0, channel, "null", b"")
