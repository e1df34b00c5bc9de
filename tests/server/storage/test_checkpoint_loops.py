"""Graphs on a loop of their own, and synchronous graph code: pool and flusher stay on their loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from heddle_core.domain.run import Durability
from tests.server.storage.test_checkpoint_runs import Notes, asker, counter, nested, open_questions
from tests.support.checkpoint_world import CheckpointWorld, config_for, config_on


@pytest.fixture
def elsewhere() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize("durability", list(Durability))
async def test_a_graph_runs_on_a_loop_of_its_own(
    world: CheckpointWorld, elsewhere: asyncio.AbstractEventLoop, durability: Durability
) -> None:
    async def run(graph: Any, ledger: Any, given: Any) -> Any:
        config = config_for(ledger) | {"recursion_limit": 200}
        return await graph.ainvoke(given, config, durability=durability.value)

    thread = uuid4()
    long, asks = counter(60).compile(world.saver), nested(asker(1).compile()).compile(world.saver)
    for graph, given in (
        (long, {"notes": []}),
        (asks, {"notes": ["ask"], "count": 0}),
        (asks, Command(resume="answer")),
    ):
        ledger = await world.claim(thread, durability)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(graph, ledger, given), elsewhere))
        assert await world.close(ledger)
    assert (await asks.aget_state(config_on(thread))).values["notes"][-1] == "answer"
    assert await open_questions(asks, thread) == []


async def test_calls_without_a_claim_work_from_another_loop(
    world: CheckpointWorld, elsewhere: asyncio.AbstractEventLoop
) -> None:
    thread, graph = uuid4(), counter(2).compile(world.saver)
    run = graph.ainvoke({"notes": []}, config_on(thread))
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run, elsewhere))
    assert (await graph.aget_state(config_on(thread))).values["count"] == 2


@pytest.mark.parametrize("claimed", [True, False])
async def test_synchronous_graph_code_in_a_thread_uses_the_saver(world: CheckpointWorld, claimed: bool) -> None:
    graph, thread = counter(3).compile(world.saver), uuid4()
    synchronous = StateGraph(Notes)
    synchronous.add_node("step", lambda state: {"count": state["count"] + 1})
    synchronous.add_edge(START, "step")
    compiled: Any = synchronous.compile(world.saver)
    ledger = await world.claim(thread)
    config = config_for(ledger) if claimed else config_on(thread)
    await asyncio.to_thread(compiled.invoke, {"count": 1}, config)
    state = await asyncio.to_thread(compiled.get_state, config)
    assert state.values["count"] == 2
    history = await asyncio.to_thread(lambda: list(compiled.get_state_history(config)))
    assert len(history) == 3
    if claimed:
        assert await world.close(ledger)
    assert (await graph.aget_state(config_on(thread))).values["count"] == 2


async def test_a_synchronous_call_on_the_loop_itself_names_the_asynchronous_one(world: CheckpointWorld) -> None:
    with pytest.raises(asyncio.InvalidStateError, match="aget_tuple"):
        world.saver.get_tuple(config_on(uuid4()))


async def test_threads_may_append_while_the_flusher_takes(world: CheckpointWorld) -> None:
    """No row is lost between an append in one thread and a flush in another."""
    ledger = await world.claim()

    def append() -> None:
        async def many() -> None:
            for _ in range(400):
                await world.saver.aput_writes(config_for(ledger, checkpoint_id="c"), [("notes", "x")], str(uuid4()))

        asyncio.run(many())

    await asyncio.gather(*(asyncio.to_thread(append) for _ in range(3)))
    assert await world.close(ledger)
    assert await world.rows("checkpoint_writes", ledger.thread) == 1200
