"""Delta channels: a checkpoint holds a step's changes, the value is rebuilt from its ancestors' writes."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict
from uuid import UUID, uuid4

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph

from heddle_core.domain.run import Durability
from heddle_server.storage.checkpoints import LEDGER_KEY
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.rows import WRITE_ROWS
from tests.server.storage.test_checkpoint_rollback import note, roll_back, snapshot
from tests.support.checkpoint_world import CheckpointWorld, config_for, config_on


def extend(notes: list[str], added: list[list[str]]) -> list[str]:
    return [*notes, *(item for items in added for item in items)]


def graph_of(steps: int, frequency: int) -> StateGraph[Any, Any, Any, Any]:
    notes = Annotated[list[str], DeltaChannel(extend, snapshot_frequency=frequency)]
    graph = StateGraph(TypedDict("State", {"notes": notes, "count": int}, total=False))  # type: ignore[operator]
    graph.add_node("step", lambda state: {"notes": [f"n{state['count']}"], "count": state["count"] + 1})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: END if state["count"] >= steps else "step", ["step", END])
    return graph


async def turn(world: CheckpointWorld, graph: Any, thread: UUID, durability: Durability, word: str) -> None:
    ledger = await world.claim(thread, durability)
    await graph.ainvoke({"notes": [word], "count": 0}, config_for(ledger), durability=durability.value)
    assert await world.close(ledger)


@pytest.mark.parametrize("frequency", [2, 1000])
@pytest.mark.parametrize("durability", list(Durability))
async def test_histories_equal_those_of_memory_and_stock(
    world: CheckpointWorld, durability: Durability, frequency: int
) -> None:
    thread, memory = uuid4(), InMemorySaver()
    graph = graph_of(3, frequency)
    for word in ("a", "b", "c"):
        await turn(world, graph.compile(world.saver), thread, durability, word)
        await graph.compile(memory).ainvoke(
            {"notes": [word], "count": 0}, config_on(thread), durability=durability.value
        )
    async with AsyncPostgresSaver.from_conn_string(world.address.libpq_url()) as stock:
        savers: list[BaseCheckpointSaver[Any]] = [memory, world.saver, stock]
        seen = []
        for saver in savers:
            states = [state async for state in graph.compile(saver).aget_state_history(config_on(thread))]
            seen.append([state.values.get("notes") for state in states])
    assert seen[0][0] == ["a", "n0", "n1", "n2", "b", "n0", "n1", "n2", "c", "n0", "n1", "n2"]
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


async def test_rebuilding_a_value_takes_two_statements(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), graph_of(5, 1000).compile(world.saver)
    for word in ("a", "b"):
        await turn(world, graph, thread, Durability.ASYNC, word)
    found = await world.saver.aget_tuple(config_on(thread))
    assert found is not None
    world.statements.clear()
    history = await world.saver.aget_delta_channel_history(config=found.config, channels=["notes"])
    assert len(world.statements) == 2
    assert len(history["notes"]["writes"]) == 12


async def test_it_equals_the_walk_over_single_checkpoints(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), graph_of(4, 3).compile(world.saver)
    for word in ("a", "b"):
        await turn(world, graph, thread, Durability.ASYNC, word)
    channels = ["notes", "count", "unknown"]
    async for found in world.saver.alist(config_on(thread)):
        ours = await world.saver.aget_delta_channel_history(config=found.config, channels=channels)
        walked = await BaseCheckpointSaver.aget_delta_channel_history(
            world.saver, config=found.config, channels=channels
        )
        assert ours == walked
    nowhere = config_on(uuid4())
    assert await world.saver.aget_delta_channel_history(config=nowhere, channels=["notes"]) == {"notes": {"writes": []}}
    assert await world.saver.aget_delta_channel_history(config=nowhere, channels=[]) == {}


async def test_a_fork_follows_its_own_ancestors(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), graph_of(3, 1000).compile(world.saver)
    await turn(world, graph, thread, Durability.ASYNC, "a")
    states = [state async for state in graph.aget_state_history(config_on(thread))]
    middle = next(state for state in states if state.values.get("count") == 1)
    ledger = await world.claim(thread)
    checkpoint_id = middle.config["configurable"]["checkpoint_id"]
    await graph.ainvoke({"notes": ["fork"], "count": 2}, config_for(ledger, checkpoint_id=checkpoint_id))
    assert await world.close(ledger)
    assert (await graph.aget_state(config_on(thread))).values["notes"] == ["a", "n0", "fork", "n2"]


async def test_state_updates_join_the_chain(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), graph_of(2, 1000).compile(world.saver)
    await turn(world, graph, thread, Durability.ASYNC, "a")
    ledger = Ledger.detached(thread)
    config = config_on(thread, **{LEDGER_KEY: ledger})
    for word in ("u1", "u2"):
        await graph.aupdate_state(config, {"notes": [word]}, as_node="step")
    expected = ["a", "n0", "n1", "u1", "u2"]
    assert (await graph.aget_state(config)).values["notes"] == expected
    await world.pool.execute(WRITE_ROWS, [ledger.run_id], *ledger.take_tail().parameters())
    assert (await graph.aget_state(config_on(thread))).values["notes"] == expected
    await turn(world, graph, thread, Durability.EXIT, "b")
    assert (await graph.aget_state(config_on(thread))).values["notes"] == [*expected, "b", "n0", "n1"]


async def test_a_copy_and_a_rollback_keep_the_value(world: CheckpointWorld) -> None:
    thread, copy, graph = uuid4(), uuid4(), graph_of(3, 1000).compile(world.saver)
    await turn(world, graph, thread, Durability.ASYNC, "a")
    await world.saver.acopy_thread(str(thread), str(copy))
    before = await snapshot(world, thread)
    ledger = await world.claim(thread)
    base = await note(world, ledger)
    await graph.ainvoke({"notes": ["gone"], "count": 0}, config_for(ledger), durability="async")
    await world.flusher.flush_now(ledger)
    await roll_back(world, ledger, base)
    assert await snapshot(world, thread) == before
    for each in (thread, copy):
        assert (await graph.aget_state(config_on(each))).values["notes"] == ["a", "n0", "n1", "n2"]


@pytest.mark.parametrize("frequency", [1, 1000])
async def test_such_threads_are_not_pruned(world: CheckpointWorld, frequency: int) -> None:
    thread, graph = uuid4(), graph_of(2, frequency).compile(world.saver)
    await turn(world, graph, thread, Durability.ASYNC, "a")
    before = await snapshot(world, thread)
    with pytest.raises(NotImplementedError, match=str(thread)):
        await world.saver.aprune([str(thread)])
    assert await snapshot(world, thread) == before
