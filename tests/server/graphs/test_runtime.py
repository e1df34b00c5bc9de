"""How a run starts, what it answers and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import orjson
import pytest

from heddle_core.domain.errors import GraphFailed, InvalidRequest
from heddle_core.domain.ids import new_thread_id
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import Durability
from heddle_server.graphs.guests import prepare_loop
from tests.support.graphs.worlds import ASSISTANT, GraphWorld, ListLog, a_claim, again


@pytest.fixture
def world() -> GraphWorld:
    return GraphWorld()


async def test_the_answer_follows_the_output_schema(world: GraphWorld) -> None:
    claim = a_claim("narrow", {"log": [], "secret": "in"})
    log = ListLog()

    assert await world.run(claim, log) == {"log": ["hide"]}
    assert log.of("values")[-1] == {"log": ["hide"], "secret": "s"}
    summary = await world.runtime.summarize(claim)
    assert orjson.loads(summary.values or b"") == {"log": ["hide"], "secret": "s"}


async def test_a_question_is_in_the_answer_and_in_the_summary(world: GraphWorld) -> None:
    claim = a_claim("asks", {"log": []}, "updates")
    answer = await world.run(claim)
    summary = await world.runtime.summarize(claim)

    [question] = answer["__interrupt__"]
    assert set(question) == {"id", "value", "response_schema"}
    [(task_id, waiting)] = orjson.loads(summary.interrupts).items()
    assert waiting == [{"id": question["id"], "value": {"question": "go on?"}}]
    assert UUID(task_id)
    assert summary.has_next
    assert summary.checkpoint_id


async def test_a_resume_answers_the_question(world: GraphWorld) -> None:
    first = a_claim("asks", {"log": []})
    await world.run(first)
    second = a_claim("asks", {}, thread_id=first.thread_id, command={"resume": "yes"})

    assert await world.run(second) == {"log": ["first", "answer yes"]}
    summary = await world.runtime.summarize(second)
    assert (summary.interrupts, summary.has_next) == (b"{}", False)


async def test_a_resume_by_interrupt_id_answers_that_question(world: GraphWorld) -> None:
    first = a_claim("asks", {"log": []})
    [question] = (await world.run(first))["__interrupt__"]
    command = {"resume": {question["id"]: "mapped"}}

    answer = await world.run(a_claim("asks", None, thread_id=first.thread_id, command=command))
    assert answer == {"log": ["first", "answer mapped"]}


@pytest.mark.parametrize("command", [{"resume": None}, {"resume": None, "update": None, "goto": []}, {}])
async def test_an_empty_command_only_continues(world: GraphWorld, command: dict[str, Any]) -> None:
    first = a_claim("asks", {"log": []})
    await world.run(first)

    answer = await world.run(a_claim("asks", {}, thread_id=first.thread_id, command=command))
    assert "__interrupt__" in answer
    assert answer["log"] == ["first"]


@pytest.mark.parametrize("goto", ["__end__", ["__end__"]])
async def test_going_to_the_end_ends_a_waiting_thread_without_running_it(world: GraphWorld, goto: Any) -> None:
    first = a_claim("asks", {"log": []})
    await world.run(first)
    log = ListLog()
    ending = a_claim("asks", {}, "values", "updates", thread_id=first.thread_id, command={"goto": goto})

    assert await world.run(ending, log) == {"log": ["first"]}
    assert log.data == [("values", {"log": ["first"]})]
    summary = await world.runtime.summarize(ending)
    assert (summary.has_next, summary.interrupts) == (False, b"{}")
    state = await world.state("asks", first.thread_id)
    assert state["metadata"]["run_id"] == str(ending.run_id)
    assert state["tasks"] == []


async def test_going_to_the_end_with_an_update_writes_it(world: GraphWorld) -> None:
    first = a_claim("asks", {"log": []})
    await world.run(first)
    command = {"goto": "__end__", "update": {"log": ["closed"]}}
    ending = a_claim("asks", {}, thread_id=first.thread_id, command=command)

    assert await world.run(ending) == {"log": ["first", "closed"]}
    assert not (await world.runtime.summarize(ending)).has_next


async def test_a_goto_without_a_node_is_refused_by_name(world: GraphWorld) -> None:
    with pytest.raises(InvalidRequest, match=r"command\.goto: must be a node's name"):
        await world.run(a_claim("two", None, command={"goto": [{"input": 1}]}))


async def test_going_to_the_end_of_a_new_thread_does_nothing(world: GraphWorld) -> None:
    assert await world.run(a_claim("asks", None, command={"goto": "__end__"})) == {}


async def test_a_command_can_update_and_go_to_a_node_with_its_own_input(world: GraphWorld) -> None:
    first = a_claim("fanned", {"log": []})
    await world.run(first)
    command = {"update": [["log", ["up"]]], "goto": [{"node": "leaf", "input": {"log": ["sent"]}}]}

    answer = await world.run(a_claim("fanned", None, thread_id=first.thread_id, command=command))
    assert answer == {"log": ["leaf 0", "leaf 1", "up", "leaf sent"]}


@pytest.mark.parametrize("names", ["*", ("*",), ("second",)])
async def test_a_breakpoint_stops_before_the_node_and_null_continues(world: GraphWorld, names: Any) -> None:
    first = a_claim("two", {"log": []}, interrupt_before=names)
    answer = await world.run(first)
    assert "__interrupt__" not in answer
    assert (await world.runtime.summarize(first)).has_next

    await world.run(a_claim("two", None, thread_id=first.thread_id))
    done = await world.run(a_claim("two", None, thread_id=first.thread_id))
    assert done == {"log": ["first", "second"]}


async def test_a_breakpoint_after_a_node_lets_it_run(world: GraphWorld) -> None:
    assert await world.run(a_claim("two", {"log": []}, interrupt_after=("first",))) == {"log": ["first"]}


async def test_a_run_that_had_started_continues_instead_of_starting_over(world: GraphWorld) -> None:
    claim = a_claim("two", {"log": ["in"]}, interrupt_before=("second",))
    await world.run(claim)
    second = again(claim, already_started=True)

    assert await world.run(second) == {"log": ["in", "first", "second"]}


async def test_a_run_can_start_at_an_older_checkpoint(world: GraphWorld) -> None:
    claim = a_claim("two", {"log": ["in"]})
    await world.run(claim)
    rows = await world.history("two", claim.thread_id)
    [before_second] = [row for row in rows if row["next"] == ["second"]]

    log = ListLog()
    fork = a_claim("two", None, "updates", thread_id=claim.thread_id, checkpoint=before_second["checkpoint"])
    assert await world.run(fork, log) == {"log": ["in", "first", "second"]}
    assert log.data == [("updates", {"second": {"log": ["second"]}})]


async def test_ids_and_metadata_are_the_servers_to_say(world: GraphWorld) -> None:
    lies = {"configurable": {"thread_id": "x", "run_id": "x", "__pregel_send": 1, "user_id": "u"}}
    claim = a_claim("with_context", {"log": []}, config=lies)

    [shown] = (await world.run(claim))["log"]
    assert shown == {
        "context": "small",
        "run_id": str(claim.run_id),
        "thread_id": str(claim.thread_id),
        "graph_id": "with_context",
        "assistant_id": str(ASSISTANT),
        "user_id": "u",
    }


@pytest.mark.parametrize(
    "given",
    [
        {"context": {"model": "large"}, "config": {}},
        {"config": {"configurable": {"model": "large", "unrelated": 1}}},
    ],
)
async def test_context_and_configurable_mirror_each_other(world: GraphWorld, given: dict[str, Any]) -> None:
    [shown] = (await world.run(a_claim("with_context", {"log": []}, **given)))["log"]
    assert shown["context"] == "large"


async def test_the_threads_config_is_beneath_the_runs(world: GraphWorld) -> None:
    thread_config = Encoded(b'{"configurable":{"model":"threads","user_id":"t"}}')
    config = {"configurable": {"user_id": "r"}}

    [shown] = (await world.run(a_claim("with_context", {"log": []}, config=config, thread_config=thread_config)))["log"]
    assert shown["user_id"] == "r"


async def test_metadata_names_the_run_its_attempt_and_the_server(world: GraphWorld) -> None:
    claim = a_claim("metadata", {"log": []}, metadata={"created_by": "system", "mine": "yes"})
    [shown] = (await world.run(claim))["log"]
    state = await world.state("metadata", claim.thread_id)

    assert (shown["mine"], shown["run_attempt"], shown["langgraph_host"]) == ("yes", 1, "self-hosted")
    assert state["metadata"]["run_id"] == str(claim.run_id)
    assert (state["metadata"]["source"], state["metadata"]["created_by"]) == ("loop", "system")
    assert not [key for key in state["metadata"] if key.startswith("__")]


@pytest.mark.parametrize(("durability", "count"), [("sync", 4), ("async", 4), ("exit", 1)])
async def test_durability_decides_how_many_checkpoints_there_are(
    world: GraphWorld, durability: str, count: int
) -> None:
    claim = a_claim("two", {"log": []}, durability=Durability(durability))
    await world.run(claim)

    assert len(await world.history("two", claim.thread_id)) == count


async def test_the_recursion_limit_is_the_callers(world: GraphWorld) -> None:
    with pytest.raises(GraphFailed) as failed:
        await world.run(a_claim("two", {"log": []}, config={"recursion_limit": 1}))
    assert failed.value.error == "GraphRecursionError"


@pytest.mark.parametrize("graph_id", ["failing", "failing_async"])
@pytest.mark.parametrize("modes", [("values",), ("events",), ("messages-tuple",)])
@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("value", "ValueError", "boom \ufffd happened"),
        ("base", "Unusual", "very unusual"),
        ("exit", "SystemExit", "the graph tried to end the process (exit code 3)"),
        ("keyboard", "KeyboardInterrupt", ""),
        ("cancel", "NodeCancelledError", None),
    ],
)
async def test_whatever_a_node_raises_is_a_failed_run(
    world: GraphWorld, graph_id: str, modes: tuple[str, ...], how: str, error: str, text: str | None
) -> None:
    executor = prepare_loop(asyncio.get_running_loop(), slots=2)
    claim = a_claim(graph_id, {"log": [how]}, *modes)

    with pytest.raises(GraphFailed) as failed:
        await world.run(claim)
    assert failed.value.error == error
    assert text is None or failed.value.text == text
    summary = await world.runtime.summarize(claim)
    assert orjson.loads(summary.values or b"") == {"log": [how]}
    assert summary.has_next
    executor.shutdown()


async def test_state_that_cannot_be_stored_fails_the_run_and_says_why(world: GraphWorld) -> None:
    with pytest.raises(GraphFailed, match=r"cannot be stored.*Opaque"):
        await world.run(a_claim("opaque", {"log": []}))


async def test_a_graph_that_is_gone_fails_its_runs(world: GraphWorld) -> None:
    with pytest.raises(GraphFailed, match="graph 'gone' is not in the configuration"):
        await world.run(a_claim("gone", {}))


async def test_a_cancel_from_outside_reaches_the_node_once_and_the_state_survives(world: GraphWorld) -> None:
    claim = a_claim("waiter", {"log": []}, "custom", "values")
    started = asyncio.Event()
    log = ListLog(when=lambda event: started.set() if event.data == b'"waiting"' else None)
    running = asyncio.create_task(world.runtime.run(claim, log))
    async with asyncio.timeout(5):
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    summary = await world.runtime.summarize(claim)
    assert orjson.loads(summary.values or b"") == {"log": ["first"]}
    assert summary.has_next


async def test_sync_nodes_of_many_runs_do_not_wait_for_each_other(world: GraphWorld) -> None:
    loop = asyncio.get_running_loop()
    executor = prepare_loop(loop, slots=40)
    began = loop.time()
    await asyncio.gather(*(world.run(a_claim("sleeper", {"log": [0.3]})) for _ in range(40)))

    assert loop.time() - began < 3  # one after the other: 12 s; on the default six threads: more than 2 s of sleep
    executor.shutdown()


async def test_a_thread_without_a_checkpoint_has_an_empty_summary(world: GraphWorld) -> None:
    summary = await world.runtime.summarize(a_claim("echo", {"log": []}))

    assert (summary.values, summary.checkpoint_id, summary.has_next) == (None, None, False)


async def test_functional_and_delta_graphs_run(world: GraphWorld) -> None:
    assert await world.run(a_claim("functional", 21)) == 42
    thread = new_thread_id()
    await world.run(a_claim("delta", {"log": ["in"]}, thread_id=thread))
    assert await world.run(a_claim("delta", {"log": ["more"]}, thread_id=thread)) == {
        "log": ["in", "delta", "more", "delta"]
    }


async def test_a_run_started_from_inside_a_graph_is_not_its_child(world: GraphWorld) -> None:
    from langchain_core.runnables.config import var_child_runnable_config

    outer = var_child_runnable_config.set({"configurable": {"checkpoint_ns": "outer:1"}, "metadata": {"outer": 1}})
    try:
        [shown] = (await world.run(a_claim("metadata", {"log": []})))["log"]
    finally:
        var_child_runnable_config.reset(outer)
    assert "outer" not in shown


@pytest.mark.parametrize("graph_id", ["two", "narrow", "parent", "delta", "functional", "untracked"])
async def test_the_summary_of_a_finished_run_is_what_a_read_shows(world: GraphWorld, graph_id: str) -> None:
    claim = a_claim(graph_id, 21 if graph_id == "functional" else {"log": ["in"]}, "updates")
    await world.run(claim)
    known = await world.runtime.summarize(claim)
    read = await world.runtime.summarize(again(claim))

    assert known.values == read.values
    assert (known.interrupts, known.has_next) == (read.interrupts, read.has_next) == (b"{}", False)


async def test_a_value_that_is_not_checkpointed_is_not_in_the_summary(world: GraphWorld) -> None:
    claim = a_claim("untracked", {"log": ["in"]})

    assert (await world.run(claim))["token"] == "secret"
    assert b"secret" not in ((await world.runtime.summarize(claim)).values or b"")
