"""Graph code that blocks must not stall the API."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
from langgraph_sdk import get_client

from heddle_server.dsn import Dsn
from tests.support.server import Server, serving
from tests.system.waiting import until, until_status


async def slowest_health(server: Server, seconds: float) -> float:
    """The longest that `/ok` took, asked again and again for so long."""
    slowest = 0.0
    async with httpx.AsyncClient(base_url=server.url) as http:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            started = time.monotonic()
            assert (await http.get("/ok", timeout=20)).status_code == 200
            slowest = max(slowest, time.monotonic() - started)
            await asyncio.sleep(0.02)
    return slowest


async def test_health_answers_while_a_synchronous_node_sleeps(server: Server) -> None:
    client = get_client(url=server.url, api_key=None)
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "sleepy", input={"value": 5})
    await until_status(client, thread, run["run_id"], "running")
    assert await slowest_health(server, 3) < 0.1
    assert (await client.runs.join(thread, run["run_id"]))["log"] == ["slept"]


async def test_an_async_node_that_blocks_the_loop_is_named_in_the_log(database: Dsn, tmp_path: Path) -> None:
    with serving(database.libpq_url(), tmp_path) as server:
        client = get_client(url=server.url, api_key=None)
        await client.runs.wait(None, "blocking", input={"value": 2})

        async def is_named() -> bool:
            return "loop_blocked" in server.output() and "_block" in server.output()

        await until(is_named)
        assert "Logging error" not in server.output()


async def test_on_a_loop_of_its_own_a_blocking_graph_leaves_the_api_alone(database: Dsn, tmp_path: Path) -> None:
    with serving(database.libpq_url(), tmp_path, environment={"BG_JOB_ISOLATED_LOOPS": "true"}) as server:
        client = get_client(url=server.url, api_key=None)
        thread = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread, "blocking", input={"value": 3})
        await until_status(client, thread, run["run_id"], "running")
        assert await slowest_health(server, 2) < 0.1
        assert (await client.runs.join(thread, run["run_id"]))["log"] == ["blocked"]
        assert await client.runs.wait(None, "chat", input={"messages": [{"role": "user", "content": "hi"}]})
