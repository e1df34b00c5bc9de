"""Rolling back, copying and pruning: what is left is what was there before."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from heddle_server.storage.ledger import Ledger
from tests.server.storage.test_checkpoint_runs import Notes, asker, counter, nested, open_questions, run_and_close
from tests.support.checkpoint_world import CheckpointWorld, config_for, config_on

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")


async def snapshot(world: CheckpointWorld, thread: UUID) -> list[list[tuple[Any, ...]]]:
    """Every row of a thread."""
    return [
        sorted(
            tuple(row)
            for row in await world.pool.fetch(f"SELECT t::text FROM {table} t WHERE thread_id = $1", str(thread))
        )
        for table in TABLES
    ]


async def note(world: CheckpointWorld, ledger: Ledger) -> tuple[str | None, str | None]:
    """What opening a run notes: its base checkpoint and the writes pending there."""
    return ledger.head, await world.pool.fetchval("SELECT heddle.note_base($1, $2)", ledger.thread, ledger.head)


async def roll_back(world: CheckpointWorld, ledger: Ledger, base: tuple[str | None, str | None]) -> None:
    ledger.discard()
    await ledger.settle()
    await world.pool.execute(
        "SELECT heddle.rollback_checkpoints($1, $2, $3, $4)", ledger.thread, str(ledger.run_id), *base
    )
    await world.pool.execute(
        "UPDATE heddle.run SET status = 'interrupted', lease_token = NULL WHERE run_id = $1", ledger.run_id
    )


async def run_and_roll_back(world: CheckpointWorld, graph: Any, thread: UUID, given: Any, **configurable: Any) -> None:
    """A run that stored everything it has, and is rolled back then."""
    ledger = await world.claim(thread)
    base = await note(world, ledger)
    await graph.ainvoke(given, config_for(ledger, **configurable), durability="async")
    await world.flusher.flush_now(ledger)
    for table in TABLES:
        assert await world.rows(table, thread) > 0
    await roll_back(world, ledger, base)


async def test_a_first_run_leaves_nothing(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), counter(3).compile(world.saver)
    await run_and_roll_back(world, graph, thread, {"notes": ["a"]})
    assert await snapshot(world, thread) == [[], [], []]


async def test_a_later_run_leaves_what_was_before(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), counter(3).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": ["a"]})
    before = await snapshot(world, thread)
    await run_and_roll_back(world, graph, thread, {"notes": ["b"], "count": 0})
    assert await snapshot(world, thread) == before


@pytest.mark.parametrize("stop_early", [False, True])
async def test_a_resumed_run_leaves_the_question_open(world: CheckpointWorld, stop_early: bool) -> None:
    """A resumed run leaves its first writes on the checkpoint of the run before it."""
    reached = asyncio.Event()

    async def ask(state: Notes) -> Notes:
        return {"notes": [interrupt("q")]}

    async def after(state: Notes) -> Notes:
        reached.set()
        if stop_early:
            await asyncio.Event().wait()
        return {"notes": ["after"]}

    graph = StateGraph(Notes)
    graph.add_node("ask", ask)
    graph.add_node("beside", lambda state: {"notes": ["beside"]})
    graph.add_node("after", after)
    graph.add_edge(START, "ask")
    graph.add_edge(START, "beside")
    graph.add_edge("ask", "after")
    compiled, thread = graph.compile(world.saver), uuid4()
    await run_and_close(world, compiled, thread, {"notes": ["start"]})
    assert await open_questions(compiled, thread) == ["q"]
    before = await snapshot(world, thread)

    ledger = await world.claim(thread)
    base = await note(world, ledger)
    assert base[1] is not None
    running = asyncio.ensure_future(compiled.ainvoke(Command(resume="NO"), config_for(ledger), durability="async"))
    await asyncio.wait_for(reached.wait(), 5)
    if stop_early:
        running.cancel()
    await asyncio.wait([running], timeout=5)
    await world.flusher.flush_now(ledger)
    assert await snapshot(world, thread) != before
    await roll_back(world, ledger, base)

    assert await snapshot(world, thread) == before
    assert await open_questions(compiled, thread) == ["q"]
    if not stop_early:
        await run_and_close(world, compiled, thread, Command(resume="YES"))
        notes = (await compiled.aget_state(config_on(thread))).values["notes"]
        assert notes == ["start", "YES", "beside", "after"]


async def test_a_resumed_run_inside_a_subgraph_leaves_its_question_open(world: CheckpointWorld) -> None:
    inner = StateGraph(Notes)
    inner.add_node("first", lambda state: {"notes": ["first"]})
    inner.add_node("ask", lambda state: {"notes": [interrupt("q")]})
    inner.add_node("last", lambda state: {"notes": ["last"]})
    inner.add_edge(START, "first")
    inner.add_edge("first", "ask")
    inner.add_edge("ask", "last")
    graph, thread = nested(inner.compile()).compile(world.saver), uuid4()
    await run_and_close(world, graph, thread, {"notes": []})
    before = await snapshot(world, thread)
    await run_and_roll_back(world, graph, thread, Command(resume="NO"))

    assert await snapshot(world, thread) == before
    assert await open_questions(graph, thread) == ["q"]
    await run_and_close(world, graph, thread, Command(resume="YES"))
    assert (await graph.aget_state(config_on(thread))).values["notes"] == ["first", "YES", "last"]


async def test_a_run_with_a_subgraph_leaves_none_of_its_namespaces(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), nested(counter(2).compile()).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": ["a"]})
    before = await snapshot(world, thread)
    await run_and_roll_back(world, graph, thread, {"notes": ["b"]})
    assert await snapshot(world, thread) == before


async def test_a_fork_leaves_the_blobs_it_shared(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), counter(3).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": ["a"], "count": 0})
    before = await snapshot(world, thread)
    history = [state async for state in graph.aget_state_history(config_on(thread))]
    middle = next(state for state in history if state.values.get("count") == 1)
    checkpoint_id = middle.config["configurable"]["checkpoint_id"]
    await run_and_roll_back(world, graph, thread, {"notes": ["fork"]}, checkpoint_id=checkpoint_id)
    assert await snapshot(world, thread) == before
    assert [state async for state in graph.aget_state_history(config_on(thread))] == history


async def test_writes_whose_checkpoint_never_came_are_removed(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), counter(1).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": ["a"]})
    before = await snapshot(world, thread)
    ledger = await world.claim(thread)
    base = await note(world, ledger)
    late = config_for(ledger, checkpoint_id="ffffffff-0000-6000-8000-000000000000")
    await world.saver.aput_writes(late, [("notes", ["x"])], str(uuid4()))
    await world.flusher.flush_now(ledger)
    await roll_back(world, ledger, base)
    assert await snapshot(world, thread) == before


async def test_runs_deleted_without_their_thread_keep_shared_blobs(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), counter(2).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": ["a"]})
    before = await snapshot(world, thread)
    ledger = await world.claim(thread)
    await graph.ainvoke({"notes": ["b"]}, config_for(ledger))
    assert await world.close(ledger)
    await world.saver.adelete_for_runs([str(ledger.run_id)])
    assert await snapshot(world, thread) == before


async def test_a_copy_is_complete_and_independent(world: CheckpointWorld) -> None:
    source, target = uuid4(), uuid4()
    graph = nested(asker(1).compile()).compile(world.saver)
    await run_and_close(world, graph, source, {"notes": ["a"]})
    await world.saver.acopy_thread(str(source), str(target))
    await run_and_close(world, graph, target, Command(resume="answer"))
    assert await open_questions(graph, source) == ["q1"]
    assert (await graph.aget_state(config_on(target))).values["notes"] == ["a", "a", "answer"]


async def test_pruning_keeps_the_latest_state_and_drops_what_only_history_needs(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), nested(counter(3).compile()).compile(world.saver)
    for n in range(2):
        await run_and_close(world, graph, thread, {"notes": [f"{n}"], "count": 0})
    state = await graph.aget_state(config_on(thread))
    await world.saver.aprune([str(thread)])

    kept = await graph.aget_state(config_on(thread))
    assert (kept.values, kept.next) == (state.values, state.next)
    assert kept.parent_config is None
    assert await world.rows("checkpoints", thread) == 1
    assert await world.rows("checkpoint_writes", thread) == 0
    versions = kept.values.keys()
    assert await world.rows("checkpoint_blobs", thread) <= len(versions) + 3
    await run_and_close(world, graph, thread, {"notes": ["more"], "count": 0})


async def test_pruning_keeps_a_subgraph_that_waits_for_an_answer(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), nested(asker(1).compile()).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": ["a"]})
    await world.saver.aprune([str(thread)])
    assert await open_questions(graph, thread) == ["q1"]
    await run_and_close(world, graph, thread, Command(resume="answer"))
    assert (await graph.aget_state(config_on(thread))).values["notes"][-1] == "answer"


async def test_an_unknown_prune_strategy_is_refused(world: CheckpointWorld) -> None:
    with pytest.raises(ValueError, match="keep_latest"):
        await world.saver.aprune([str(uuid4())], strategy="sometimes")
    with pytest.raises(TypeError, match="sequence"):
        await world.saver.aprune("one")
