"""One function per figure of the table. Each returns the figure in the unit its budget is in."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from benchmarks.client import Clients, Connection
from benchmarks.subject import Subject

MICRO = 1_000_000
Work = Callable[[Connection], Awaitable[object]]


async def cpu_per_call(subject: Subject, work: Work, times: int, connections: int) -> float:
    """CPU microseconds (server and Postgres) per call, after a warm-up of one call per connection."""
    clients = Clients(subject.port, connections)
    try:
        await clients.do(max(connections, 20), work)
        before = subject.cpu()
        await clients.do(times, work)
        return (subject.cpu() - before) / times * MICRO
    finally:
        await clients.close()


def run_body(graph: str, state: Any, **more: Any) -> dict[str, Any]:
    return {"assistant_id": graph, "input": state, "if_not_exists": "create", **more}


def waiting(graph: str, state: Any, **more: Any) -> Work:
    """A run on a thread of its own, through `runs/wait`."""

    async def work(connection: Connection) -> None:
        await connection.request("POST", f"/threads/{uuid4()}/runs/wait", run_body(graph, state, **more))

    return work


def streaming(graph: str, state: Any, mode: str) -> Work:
    async def work(connection: Connection) -> None:
        await connection.stream(f"/threads/{uuid4()}/runs/stream", run_body(graph, state, stream_mode=[mode]))

    return work


async def statements_per_run(subject: Subject, work: Work, runs: int) -> float:
    clients = Clients(subject.port, 1)
    try:
        await clients.do(5, work)
        with subject.statements() as found:
            await clients.do(runs, work)
        return found[0] / runs
    finally:
        await clients.close()


async def commits_per_run(subject: Subject, work: Work, runs: int) -> float:
    clients = Clients(subject.port, 1)
    try:
        await clients.do(5, work)
        before = subject.transactions()
        await clients.do(runs, work)
        return (subject.transactions() - before) / runs
    finally:
        await clients.close()


async def first_event(subject: Subject) -> float:
    """Median milliseconds to the first event of a stream on an idle server."""
    connection = Connection(subject.port)
    seconds = []
    for _ in range(60):
        body = run_body("echo", {"text": "hi"}, stream_mode=["values"])
        seconds.append((await connection.stream(f"/threads/{uuid4()}/runs/stream", body))[1])
    await connection.close()
    return statistics.median(seconds[10:]) * 1000


async def new_thread(subject: Subject) -> float:
    async def work(connection: Connection) -> None:
        await connection.request("POST", "/threads", {"metadata": {"user": "u"}})

    return await cpu_per_call(subject, work, 1000, 10)


async def long_thread(subject: Subject, messages: int = 1000) -> str:
    """The id of a thread with so many messages."""
    connection = Connection(subject.port)
    thread = str(uuid4())
    state = {"messages": [{"type": "human", "content": f"message {n}"} for n in range(messages)]}
    await connection.request("POST", f"/threads/{thread}/runs/wait", run_body("chat", state))
    await connection.close()
    return thread


async def next_turn(subject: Subject, thread: str) -> float:
    async def work(connection: Connection) -> None:
        state = {"messages": [{"type": "human", "content": "next"}]}
        await connection.request("POST", f"/threads/{thread}/runs/wait", run_body("chat", state))

    return await cpu_per_call(subject, work, 20, 1)


async def latency(subject: Subject, method: str, path: str, body: Any = None, times: int = 30) -> float:
    """Median milliseconds."""
    connection = Connection(subject.port)
    seconds = []
    for _ in range(times + 5):
        started = time.perf_counter()
        await connection.request(method, path, body)
        seconds.append(time.perf_counter() - started)
    await connection.close()
    return statistics.median(seconds[5:]) * 1000


async def search(subject: Subject) -> float:
    """CPU milliseconds of a search for 100 of 10 000 threads by metadata."""
    subject.sql(
        """INSERT INTO heddle.thread (thread_id, metadata)
           SELECT gen_random_uuid(), jsonb_build_object('owner', 'user' || n % 100, 'n', n)
             FROM generate_series(1, 10000) AS n"""
    )
    # What autovacuum does in time: statistics, and the index entries that an insert left in the pending list.
    subject.sql("VACUUM ANALYZE heddle.thread")

    async def work(connection: Connection) -> None:
        found = await connection.request("POST", "/threads/search", {"metadata": {"owner": "user7"}, "limit": 100})
        assert len(found) == 100

    return await cpu_per_call(subject, work, 100, 4) / 1000


async def paced_streams(subject: Subject) -> float:
    """Median milliseconds to the first token of 50 streams started at once."""
    connections = [Connection(subject.port) for _ in range(50)]
    state = {"messages": [{"type": "human", "content": "go"}]}
    body = run_body("paced", state, stream_mode=["messages-tuple"])
    seconds = await asyncio.gather(
        *(c.first_byte_of(f"/threads/{uuid4()}/runs/stream", body, b"event: messages") for c in connections)
    )
    for connection in connections:
        await connection.close()
    return statistics.median(seconds) * 1000


def import_seconds() -> float:
    """What a start is compared to."""
    program = "import langgraph.graph, fastapi"
    samples = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


async def idle_cpu(subject: Subject, seconds: float) -> float:
    """CPU milliseconds of the server a minute while nothing happens."""
    await asyncio.sleep(2)
    before = subject.server_cpu()
    await asyncio.sleep(seconds)
    return (subject.server_cpu() - before) * 1000 * 60 / seconds


async def rss_growth(subject: Subject, runs: int) -> float:
    """MiB that the server process grows by over so many runs."""
    clients = Clients(subject.port, 20)
    work = waiting("echo", {"text": "hi"})
    await clients.do(500, work)
    before = subject.rss()
    await clients.do(runs, work)
    await clients.close()
    return (subject.rss() - before) / 2**20
