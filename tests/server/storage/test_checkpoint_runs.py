"""Graphs under a claim: what is written when, what is read from where."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict
from uuid import UUID, uuid4

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.run import Durability
from heddle_server.storage.checkpoints import LEDGER_KEY
from tests.support.checkpoint_world import CheckpointWorld, config_for, config_on


class Notes(TypedDict, total=False):
    notes: Annotated[list[str], operator.add]
    count: int


def counter(limit: int) -> StateGraph[Any, Any, Any, Any]:
    """Adds one to `count` in each superstep until it reaches `limit`."""

    async def step(state: Notes) -> Notes:
        return {"count": state.get("count", 0) + 1, "notes": ["x"]}

    graph = StateGraph(Notes)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: END if state["count"] >= limit else "step", ["step", END])
    return graph


async def test_an_echo_run_sends_nothing_before_its_close(world: CheckpointWorld) -> None:
    ledger = await world.claim()
    await counter(1).compile(world.saver).ainvoke({"notes": ["hi"]}, config_for(ledger), durability="async")

    assert world.statements == []
    assert await world.close(ledger)
    assert await world.rows("checkpoints", ledger.thread) == 3


async def test_a_hundred_steps_take_at_most_six_statements(world: CheckpointWorld) -> None:
    ledger = await world.claim()
    graph = counter(100).compile(world.saver)
    await graph.ainvoke({"notes": []}, config_for(ledger) | {"recursion_limit": 200}, durability="async")
    await ledger.settle()
    flushes = len(world.statements)
    assert await world.close(ledger)

    assert 1 <= flushes <= 5  # and one for the close
    state = await graph.aget_state(config_on(ledger.thread))
    assert state.values["count"] == 100
    assert len(state.values["notes"]) == 100
    assert await world.rows("checkpoints", ledger.thread) == 102


async def test_sync_commits_each_superstep_once_before_the_next_one_starts(world: CheckpointWorld) -> None:
    ledger = await world.claim(durability=Durability.SYNC)
    seen: list[int] = []

    async def step(state: Notes) -> Notes:
        seen.append(await world.rows("checkpoints", ledger.thread))
        return {"count": state.get("count", 0) + 1}

    graph = StateGraph(Notes)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: END if state["count"] >= 3 else "step", ["step", END])
    await graph.compile(world.saver).ainvoke({"count": 0}, config_for(ledger), durability="sync")

    assert seen == [2, 3, 4]
    assert sum("flush_rows" in statement for statement in world.statements) == 4
    assert await world.close(ledger)


async def test_exit_writes_nothing_until_the_close(world: CheckpointWorld) -> None:
    ledger = await world.claim(durability=Durability.EXIT)
    graph = counter(5).compile(world.saver)
    await graph.ainvoke({"notes": []}, config_for(ledger), durability="exit")

    assert world.statements == []
    assert await world.close(ledger)
    assert (await graph.aget_state(config_on(ledger.thread))).values["count"] == 5
    assert await world.rows("checkpoints", ledger.thread) == 1


@pytest.mark.parametrize("durability", list(Durability))
async def test_the_state_after_a_run_is_read_from_memory(world: CheckpointWorld, durability: Durability) -> None:
    ledger = await world.claim(durability=durability)
    graph = counter(2).compile(world.saver)
    await graph.ainvoke({"notes": ["a"]}, config_for(ledger), durability=durability.value)
    await ledger.settle()
    world.statements.clear()

    state = await graph.aget_state(config_for(ledger))
    assert world.statements == []
    assert state.values == {"notes": ["a", "x", "x"], "count": 2}
    assert state.next == ()
    assert ledger.head == state.config["configurable"]["checkpoint_id"]

    assert await world.close(ledger)
    stored = await graph.aget_state(config_on(ledger.thread))
    carried = [config["configurable"].pop(LEDGER_KEY) for config in (state.config, state.parent_config or {}) if config]
    assert set(carried) == {ledger}
    assert stored == state


async def test_values_are_serialized_before_the_graph_changes_them(world: CheckpointWorld) -> None:
    """The graph goes on mutating a list that an unflushed checkpoint holds."""

    class Box(TypedDict, total=False):
        box: list[int]

    live: list[int] = [1]

    async def first(state: Box) -> Box:
        return {"box": live}

    async def second(state: Box) -> dict[str, Any]:
        live.append(2)
        return {}

    graph = StateGraph(Box)
    graph.add_node("first", first)
    graph.add_node("second", second)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    ledger = await world.claim()
    compiled = graph.compile(world.saver)
    await compiled.ainvoke({}, config_for(ledger), durability="async")
    assert await world.close(ledger)

    history = [state async for state in compiled.aget_state_history(config_on(ledger.thread))]
    assert [state.values["box"] for state in history if dict(state.metadata or {})["step"] == 1] == [[1]]


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
async def test_a_cancel_leaves_every_row_in_the_ledger(world: CheckpointWorld, durability: str) -> None:
    """One sibling has finished, the other hangs; the graph's task is cancelled once and awaited."""
    hangs = asyncio.Event()

    async def quick(state: Notes) -> Notes:
        return {"notes": ["quick"]}

    async def stuck(state: Notes) -> Notes:
        hangs.set()
        await asyncio.Event().wait()
        return {}

    graph = StateGraph(Notes)
    graph.add_node("quick", quick)
    graph.add_node("stuck", stuck)
    graph.add_edge(START, "quick")
    graph.add_edge(START, "stuck")
    compiled: Any = graph.compile(world.saver)
    ledger = await world.claim(durability=Durability(durability))

    running = asyncio.ensure_future(compiled.ainvoke({"notes": []}, config_for(ledger), durability=durability))
    await asyncio.wait_for(hangs.wait(), 5)
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert running.cancelled()
    assert await world.close(ledger)

    state = await compiled.aget_state(config_on(ledger.thread))
    assert [(task.name, task.result) for task in state.tasks if task.result] == [("quick", {"notes": ["quick"]})]


async def test_nothing_can_be_added_after_the_close(world: CheckpointWorld) -> None:
    ledger = await world.claim()
    graph = counter(1).compile(world.saver)
    await graph.ainvoke({"notes": []}, config_for(ledger))
    assert await world.close(ledger)
    before = await world.rows("checkpoint_writes", ledger.thread)

    with pytest.raises(Unavailable, match="run is over"):
        await world.saver.aput_writes(
            config_for(ledger, checkpoint_id=ledger.head), [("notes", ["late"])], str(uuid4())
        )
    assert await world.rows("checkpoint_writes", ledger.thread) == before


def asker(questions: int) -> StateGraph[Any, Any, Any, Any]:
    """One node that asks a number of questions and then notes the answers."""

    async def ask(state: Notes) -> Notes:
        return {"notes": [interrupt(f"q{n}") for n in range(1, questions + 1)]}

    graph = StateGraph(Notes)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    return graph


async def run_and_close(world: CheckpointWorld, graph: Any, thread: UUID, given: Any) -> None:
    ledger = await world.claim(thread)
    await graph.ainvoke(given, config_for(ledger), durability="async")
    assert await world.close(ledger)


async def open_questions(graph: Any, thread: UUID) -> list[str]:
    state = await graph.aget_state(config_on(thread))
    return [question.value for task in state.tasks for question in task.interrupts]


async def test_a_resume_that_died_before_its_close_leaves_the_first_question_open(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), asker(2).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": []})
    assert await open_questions(graph, thread) == ["q1"]

    dying = await world.claim(thread)
    await graph.ainvoke(Command(resume="r1"), config_for(dying), durability="async")
    await world.flusher.flush_now(dying)  # and then the process is gone

    again = await world.take_over(dying)
    assert not again.already_started
    await graph.ainvoke(Command(resume="r1"), config_for(again), durability="async")
    assert await world.close(again)
    assert not await world.close(dying)
    assert await open_questions(graph, thread) == ["q2"]

    await run_and_close(world, graph, thread, Command(resume="r2"))
    assert (await graph.aget_state(config_on(thread))).values["notes"] == ["r1", "r2"]


async def test_an_update_command_that_died_before_its_first_checkpoint_applies_once(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), asker(1).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": ["start"]})

    reached = asyncio.Event()

    async def ask_slowly(state: Notes) -> Notes:
        answer = interrupt("q1")
        reached.set()
        await asyncio.Event().wait()
        return {"notes": [answer]}

    slow = StateGraph(Notes)
    slow.add_node("ask", ask_slowly)
    slow.add_edge(START, "ask")
    dying = await world.claim(thread)
    command: Command[Any] = Command(resume="r1", update={"notes": ["updated"]})
    doomed = asyncio.ensure_future(slow.compile(world.saver).ainvoke(command, config_for(dying), durability="async"))
    await asyncio.wait_for(reached.wait(), 5)
    await world.flusher.flush_now(dying)
    dying.lose()  # the process is gone: nothing it does from here on arrives
    doomed.cancel()
    await asyncio.wait([doomed])

    again = await world.take_over(dying)
    given = None if again.already_started else command
    await graph.ainvoke(given, config_for(again), durability="async")
    assert await world.close(again)
    assert (await graph.aget_state(config_on(thread))).values["notes"] == ["start", "updated", "r1"]


def nested(inner: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Notes)
    graph.add_node("before", lambda state: {"count": 1})
    graph.add_node("inner", inner)
    graph.add_edge(START, "before")
    graph.add_edge("before", "inner")
    return graph


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_calls_of_subgraphs_read_nothing_from_the_database(world: CheckpointWorld, durability: str) -> None:
    inner = counter(2).compile()

    async def calls_twice(state: Notes) -> Notes:
        first = await inner.ainvoke({"notes": [], "count": 0})
        second = await inner.ainvoke({"notes": [], "count": 0})
        return {"notes": [*first["notes"], *second["notes"]]}

    deep = nested(nested(calls_twice).compile())
    ledger = await world.claim(durability=Durability(durability))
    compiled: Any = deep.compile(world.saver)
    result = await compiled.ainvoke({"notes": []}, config_for(ledger), durability=durability)

    assert result["notes"] == ["x"] * 4
    assert [statement for statement in world.statements if "flush_rows" not in statement] == []
    assert await world.close(ledger)


async def test_an_interrupt_inside_a_subgraph_is_resumed(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), nested(asker(1).compile()).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": ["start"]})
    assert await open_questions(graph, thread) == ["q1"]
    await run_and_close(world, graph, thread, Command(resume="r1"))
    assert (await graph.aget_state(config_on(thread))).values["notes"] == ["start", "start", "r1"]


async def test_a_subgraph_with_its_own_memory_keeps_it_across_runs(world: CheckpointWorld) -> None:
    async def remember(state: Notes) -> Notes:
        return {"count": state.get("count", 0) + 1}

    class Memory(TypedDict, total=False):
        count: int

    inner = StateGraph(Memory)
    inner.add_node("remember", remember)
    inner.add_edge(START, "remember")
    remembering = inner.compile(checkpointer=True)

    async def call(state: Notes) -> Notes:
        return {"notes": [str((await remembering.ainvoke({}))["count"])]}

    outer = StateGraph(Notes)
    outer.add_node("call", call)
    outer.add_edge(START, "call")
    graph, thread = outer.compile(world.saver), uuid4()
    for _ in range(3):
        await run_and_close(world, graph, thread, {"notes": []})
    assert (await graph.aget_state(config_on(thread))).values["notes"] == ["1", "2", "3"]


async def test_a_failing_node_is_retried_with_its_subgraph(world: CheckpointWorld) -> None:
    inner, failures = counter(2).compile(), iter([True, False])

    async def call(state: Notes) -> Notes:
        result = await inner.ainvoke({"notes": [], "count": 0})
        if next(failures):
            raise ConnectionError("once")
        return {"notes": result["notes"]}

    graph = StateGraph(Notes)
    graph.add_node("call", call, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False))
    graph.add_edge(START, "call")
    ledger = await world.claim()
    result = await graph.compile(world.saver).ainvoke({"notes": []}, config_for(ledger), durability="async")
    assert result["notes"] == ["x", "x"]
    assert await world.close(ledger)


async def test_a_graph_on_a_thread_of_its_own_inside_a_node_is_written_directly(world: CheckpointWorld) -> None:
    elsewhere = uuid4()
    other = counter(2).compile(world.saver)

    async def call(state: Notes) -> Notes:
        result = await other.ainvoke({"notes": []}, config_on(elsewhere))
        assert await world.rows("checkpoints", elsewhere) > 0
        return {"notes": result["notes"]}

    graph = StateGraph(Notes)
    graph.add_node("call", call)
    graph.add_edge(START, "call")
    ledger = await world.claim()
    await graph.compile(world.saver).ainvoke({"notes": []}, config_for(ledger))
    assert await world.close(ledger)
    assert (await other.aget_state(config_on(elsewhere))).values["count"] == 2


async def test_a_run_from_an_older_checkpoint_starts_there(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), counter(3).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": ["first"]})
    history = [state async for state in graph.aget_state_history(config_on(thread))]
    second = next(state for state in history if state.values.get("count") == 2)

    ledger = await world.claim(thread)
    checkpoint_id = second.config["configurable"]["checkpoint_id"]
    await graph.ainvoke({"notes": ["fork"]}, config_for(ledger, checkpoint_id=checkpoint_id), durability="async")
    assert await world.close(ledger)
    assert (await graph.aget_state(config_on(thread))).values["notes"] == ["first", "x", "x", "fork", "x"]


@pytest.mark.parametrize("given", [{"notes": ["a"]}, {"notes": ["a"], "count": 1}])
async def test_results_equal_those_of_the_memory_saver(world: CheckpointWorld, given: Any) -> None:
    memory, ours = counter(4).compile(InMemorySaver()), counter(4).compile(world.saver)
    thread = uuid4()
    for _ in range(2):
        ledger = await world.claim(thread)
        assert await ours.ainvoke(given, config_for(ledger)) == await memory.ainvoke(given, config_on(thread))
        assert await world.close(ledger)
    mine = [state async for state in ours.aget_state_history(config_on(thread))]
    theirs = [state async for state in memory.aget_state_history(config_on(thread))]
    assert [(state.values, state.next, dict(state.metadata or {})["step"]) for state in mine] == [
        (state.values, state.next, dict(state.metadata or {})["step"]) for state in theirs
    ]
