"""A database with a checkpointer, and runs that are claimed by writing their row by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import UUID, uuid4

import asyncpg
from langchain_core.runnables import RunnableConfig

from heddle_core.domain.run import Durability
from heddle_server.dsn import Dsn
from heddle_server.storage.checkpoints import LEDGER_KEY, PostgresSaver
from heddle_server.storage.flusher import Flusher
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.rows import FLUSH_ROWS


class CheckpointWorld:
    def __init__(self, address: Dsn, pool: asyncpg.Pool, flusher: Flusher) -> None:
        self.address = address
        self.pool = pool
        self.flusher = flusher
        self.saver = PostgresSaver(pool, flusher)
        self.stopped: list[UUID] = []
        self.statements: list[str] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, address: Dsn, **bounds: Any) -> AsyncIterator[Self]:
        statements: list[str] = []
        stopped: list[UUID] = []

        def note(record: asyncpg.connection.LoggedQuery) -> None:
            if "pg_catalog" not in record.query and "set_config" not in record.query:  # the driver's own
                statements.append(record.query)

        async def listen(connection: asyncpg.Connection) -> None:
            connection.add_query_logger(note)

        async def keep(connection: asyncpg.Connection) -> None:
            """No reset statement when a connection goes back."""

        pool = await asyncpg.create_pool(**address.asyncpg_kwargs(), min_size=1, max_size=4, init=listen, reset=keep)
        async with pool, Flusher(pool, on_lost=stopped.append, **bounds) as flusher:
            world = cls(address, pool, flusher)
            world.statements = statements
            world.stopped = stopped
            yield world

    async def connect(self) -> asyncpg.Connection:
        """A connection of its own; whoever asks closes it."""
        return await asyncpg.connect(**self.address.asyncpg_kwargs())

    async def claim(
        self, thread: UUID | None = None, durability: Durability = Durability.ASYNC, *, run: UUID | None = None
    ) -> Ledger:
        """A running run under a fresh token, with the thread's newest checkpoint loaded, as the queue does it."""
        thread, run, token = thread or uuid4(), run or uuid4(), uuid4()
        await self.pool.execute("INSERT INTO heddle.thread (thread_id) VALUES ($1) ON CONFLICT DO NOTHING", thread)
        await self.pool.execute(
            "INSERT INTO heddle.run (run_id, thread_id, assistant_id, graph_id, status, kwargs, multitask_strategy,"
            " lease_token, attempt) VALUES ($1, $2, $1, 'g', 'running', '{}', 'enqueue', $3, 1)"
            " ON CONFLICT (run_id) DO UPDATE SET lease_token = EXCLUDED.lease_token, attempt = run.attempt + 1",
            run,
            thread,
            token,
        )
        ledger = Ledger(run, thread, token, durability)
        [head] = await self.pool.fetch("SELECT * FROM heddle.latest_checkpoint($1)", str(thread))
        ledger.preload(head)
        self.statements.clear()
        return ledger

    async def take_over(self, ledger: Ledger) -> Ledger:
        """Another process claims the run."""
        return await self.claim(UUID(ledger.thread), ledger.durability, run=ledger.run_id)

    async def close(self, ledger: Ledger) -> bool:
        """End a run as the queue does: its tail under the fence, then the row. False when the claim was lost."""
        await ledger.settle()
        rows = ledger.take_tail()
        async with self.pool.acquire() as connection, connection.transaction():
            owned = await connection.fetchval(FLUSH_ROWS, [ledger.run_id], [ledger.token], *rows.parameters())
            await connection.execute(
                "UPDATE heddle.run SET status = 'success', lease_token = NULL WHERE run_id = $1 AND lease_token = $2",
                ledger.run_id,
                ledger.token,
            )
        return ledger.run_id in owned

    async def rows(self, table: str, thread: UUID | str) -> int:
        count: int = await self.pool.fetchval(f"SELECT count(*) FROM {table} WHERE thread_id = $1", str(thread))
        return count


def config_for(ledger: Ledger, **configurable: Any) -> RunnableConfig:
    """The configuration a graph is run with under a claim."""
    return {
        "configurable": {
            "thread_id": ledger.thread,
            "run_id": str(ledger.run_id),
            LEDGER_KEY: ledger,
            **configurable,
        }
    }


def config_on(thread: UUID | str, **configurable: Any) -> RunnableConfig:
    """The configuration of a call without a claim."""
    return {"configurable": {"thread_id": str(thread), **configurable}}


async def eventually(look: Callable[[], Awaitable[bool]], what: str) -> None:
    """Look until it is so. The looks are queries, so they take their time."""
    deadline = asyncio.get_running_loop().time() + 10
    while not await look():
        assert asyncio.get_running_loop().time() < deadline, f"not within ten seconds: {what}"
        await asyncio.sleep(0)


async def write(
    world: CheckpointWorld, ledger: Ledger, channel: str = "notes", value: Any = "v", task: str = ""
) -> None:
    """One pending write of some task on a checkpoint."""
    config = config_for(ledger, checkpoint_id="c")
    await world.saver.aput_writes(config, [(channel, value)], task or str(uuid4()))


@asynccontextmanager
async def locked_run(world: CheckpointWorld, ledger: Ledger) -> AsyncIterator[asyncpg.Connection]:
    """Another transaction holds the run's row, so a flush waits in its fence."""
    connection = await world.connect()
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT FROM heddle.run WHERE run_id = $1 FOR UPDATE", ledger.run_id)
        yield connection
        await transaction.rollback()
    finally:
        await connection.close()


async def waiting_backend(world: CheckpointWorld) -> int:
    """The server process of the flush that waits for a lock."""
    found: list[int] = []

    async def look() -> bool:
        found[:] = [
            row["pid"]
            for row in await world.pool.fetch(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock' AND query LIKE '%flush_rows%'"
            )
        ]
        return bool(found)

    await eventually(look, "the flush waits")
    return found[0]
