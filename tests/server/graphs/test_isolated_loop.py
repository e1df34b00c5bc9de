"""Graphs on a loop of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from heddle_core.domain.errors import GraphFailed
from heddle_core.domain.events import Event
from heddle_server.graphs.isolated_loop import IsolatedLoop
from tests.support.graphs.worlds import GraphWorld, ListLog, a_claim


@pytest.fixture
async def world() -> AsyncIterator[GraphWorld]:
    async with IsolatedLoop(slots=4) as isolated:
        yield GraphWorld(isolated=isolated)


async def test_events_arrive_in_order_at_home_before_the_answer(world: GraphWorld) -> None:
    threads: set[int] = set()
    log = ListLog(when=lambda _: threads.add(threading.get_ident()))

    assert await world.run(a_claim("talker", {"log": []}, "custom", "values"), log) == {"log": ["talked"]}
    assert log.data == [
        ("values", {"log": []}),
        *(("custom", {"number": number}) for number in range(3)),
        ("values", {"log": ["talked"]}),
    ]
    assert threads == {threading.get_ident()}


async def test_a_blocking_node_does_not_stop_the_home_loop(world: GraphWorld) -> None:
    running = asyncio.create_task(world.run(a_claim("blocker", {"log": [0.5]})))
    turns = 0
    while not running.done():
        await asyncio.sleep(0.01)
        turns += 1

    assert running.result() == {"log": [0.5, "blocked"]}
    assert turns > 10


@pytest.mark.parametrize(("how", "error"), [("value", "ValueError"), ("exit", "SystemExit")])
async def test_failures_cross_over(world: GraphWorld, how: str, error: str) -> None:
    for graph_id in ("failing", "failing_async"):
        with pytest.raises(GraphFailed) as failed:
            await world.run(a_claim(graph_id, {"log": [how]}, "messages-tuple"))
        assert failed.value.error == error


async def test_a_cancel_crosses_over_and_waits_for_the_end(world: GraphWorld) -> None:
    claim = a_claim("waiter", {"log": []}, "custom")
    started = asyncio.Event()

    def notice(event: Event) -> None:
        if event.data == b'"waiting"':
            started.set()

    running = asyncio.create_task(world.runtime.run(claim, ListLog(when=notice)))
    async with asyncio.timeout(5):
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    summary = await world.runtime.summarize(claim)
    assert summary.values == b'{"log":["first"]}'


async def test_leaving_ends_what_still_runs_and_leaving_again_is_harmless() -> None:
    isolated = IsolatedLoop(slots=1)
    async with isolated:
        world = GraphWorld(isolated=isolated)
        started = asyncio.Event()
        log = ListLog(when=lambda _: started.set())
        running = asyncio.create_task(world.runtime.run(a_claim("waiter", {"log": []}, "custom"), log))
        async with asyncio.timeout(5):
            await started.wait()
    with pytest.raises(asyncio.CancelledError):
        await running
    await isolated.__aexit__(None, None, None)
