"""What the checkpointer costs beside LangGraph's in-memory one: CPU and statements, in one process, without HTTP.

    python -m benchmarks.saver [--runs 300] [--steps 100] [--profile echo]

CPU is that of this process plus Postgres, per run or per superstep. A run here is claim, graph, close, with the
run's row written by hand, so the open and the close of the queue are not in it; their place is taken by one flush.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import operator
import os
import pstats
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import asyncpg
import psutil
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from benchmarks.database import server as fresh_server
from heddle_cli.postgres import Running
from heddle_core.domain.run import Durability
from heddle_server.storage.checkpoints import LEDGER_KEY, PostgresSaver
from heddle_server.storage.flusher import Flusher
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.migrate import upgrade
from heddle_server.storage.rows import FLUSH_ROWS, Rows

Work = Callable[[], Awaitable[None]]


class State(TypedDict, total=False):
    messages: Annotated[list[str], operator.add]
    count: int


def graph_of(steps: int, saver: Any) -> Any:
    async def step(state: State) -> State:
        return {"count": state.get("count", 0) + 1, "messages": ["echo"]}

    graph = StateGraph(State)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    if steps > 1:
        graph.add_conditional_edges("step", lambda state: END if state["count"] >= steps else "step", ["step", END])
    return graph.compile(checkpointer=saver)


@dataclass(slots=True, kw_only=True)
class Meter:
    """CPU seconds of this process and of the Postgres server on a data folder."""

    server: Running

    def read(self) -> float:
        postgres = 0.0
        for process in psutil.process_iter(["name", "cwd"]):
            if (process.info["name"] or "").startswith("postgres") and process.info["cwd"] == str(self.server.data):
                times = process.cpu_times()
                postgres += times.user + times.system
        return time.process_time() + postgres


@dataclass(slots=True, kw_only=True)
class Database:
    pool: asyncpg.Pool
    flusher: Flusher
    statements: int = 0

    async def claims(self, count: int, durability: Durability) -> list[Ledger]:
        """Runs that are running, one on each of as many new threads."""
        ledgers = [Ledger(uuid4(), uuid4(), uuid4(), durability) for _ in range(count)]
        await self.pool.executemany("INSERT INTO heddle.thread (thread_id) VALUES ($1)", [(x.thread,) for x in ledgers])
        await self.pool.executemany(
            "INSERT INTO heddle.run (run_id, thread_id, assistant_id, graph_id, status, kwargs, multitask_strategy,"
            " lease_token) VALUES ($1, $2, $1, 'g', 'running', '{}', 'enqueue', $3)",
            [(x.run_id, x.thread, x.token) for x in ledgers],
        )
        for ledger in ledgers:
            ledger.remember("", None)
        return ledgers

    async def close(self, ledgers: list[Ledger]) -> None:
        for ledger in ledgers:
            await ledger.settle()
        tail = Rows.merge(ledger.take_tail() for ledger in ledgers)
        runs, tokens = [x.run_id for x in ledgers], [x.token for x in ledgers]
        await self.pool.fetchval(FLUSH_ROWS, runs, tokens, *tail.parameters())


class Closer:
    """Closes together the runs that end in the same turn of the loop, as the queue does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[Ledger, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def close(self, ledger: Ledger) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((ledger, done))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        await done

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._database.close([ledger for ledger, _ in batch])
            for _, done in batch:
                done.set_result(None)
        self._task = None


async def spread(count: int, at_once: int, run: Callable[[int], Awaitable[None]]) -> None:
    """`count` runs, `at_once` of them at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for n in numbers:
            await run(n)

    await asyncio.gather(*(work() for _ in range(at_once)))


async def measure(meter: Meter, database: Database, work: Work) -> tuple[float, int]:
    database.statements = 0
    before = meter.read()
    await work()
    return meter.read() - before, database.statements


async def ours(database: Database, graph: Any, count: int, at_once: int, durability: Durability) -> Work:
    ledgers = await database.claims(count, durability)
    closer = Closer(database)

    async def run(n: int) -> None:
        ledger = ledgers[n]
        keys = {"thread_id": ledger.thread, "run_id": str(ledger.run_id), LEDGER_KEY: ledger}
        config = {"configurable": keys, "recursion_limit": 10_000}
        await graph.ainvoke({"messages": ["hi"], "count": 0}, config, durability=durability.value)
        await closer.close(ledger)

    async def work() -> None:
        await spread(count, at_once, run)

    return work


def floor(graph: Any, count: int, at_once: int) -> Work:
    async def run(n: int) -> None:
        config = {"configurable": {"thread_id": str(uuid4())}, "recursion_limit": 10_000}
        await graph.ainvoke({"messages": ["hi"], "count": 0}, config)

    async def work() -> None:
        await spread(count, at_once, run)

    return work


async def table(server: Running, options: argparse.Namespace) -> None:
    address = server.address()
    await upgrade(address)

    async def keep(connection: asyncpg.Connection) -> None:
        """Connections go back to the pool as they are."""

    pool = await asyncpg.create_pool(**address.asyncpg_kwargs(), min_size=4, max_size=4, reset=keep)
    async with pool, Flusher(pool) as flusher:
        database = Database(pool=pool, flusher=flusher)
        connections = [await pool.acquire() for _ in range(4)]
        for connection in connections:
            connection.add_query_logger(lambda _: setattr(database, "statements", database.statements + 1))
            await pool.release(connection)
        saver, meter = PostgresSaver(pool, flusher), Meter(server=server)
        for name, steps, count in (("echo", 1, options.runs), (f"{options.steps} steps", options.steps, 10)):
            for at_once in (1, min(50, count)):
                await lines(meter, database, saver, name, steps, count, at_once, options.profile == name.split()[-1])


async def lines(
    meter: Meter,
    database: Database,
    saver: PostgresSaver,
    name: str,
    steps: int,
    count: int,
    at_once: int,
    profiled: bool,
) -> None:
    units = count * steps
    memory, graph = graph_of(steps, InMemorySaver()), graph_of(steps, saver)
    await floor(memory, count, at_once)()
    await (await ours(database, graph, min(count, 50), at_once, Durability.ASYNC))()
    base, _ = await measure(meter, database, floor(memory, count, at_once))
    print(f"{name:>10} x{at_once:<3} memory  {base / units * 1e3:7.3f} ms")
    for durability in Durability:
        work = await ours(database, graph, count, at_once, durability)
        profile = cProfile.Profile() if profiled and durability is Durability.ASYNC else None
        if profile:
            profile.enable()
        spent, statements = await measure(meter, database, work)
        if profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        print(
            f"{name:>10} x{at_once:<3} {durability:<7} {spent / units * 1e3:7.3f} ms"
            f"  {spent / base:5.2f}x  {statements / count:7.2f} statements a run"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--profile", choices=["echo", "steps"])
    options = parser.parse_args()
    with fresh_server() as server:
        print(f"process {os.getpid()}, server at {server.data}")
        asyncio.run(table(server, options))


if __name__ == "__main__":
    main()
