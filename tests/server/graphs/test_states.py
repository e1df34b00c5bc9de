"""Thread states: read, followed back, changed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from heddle_core.domain.errors import BadRequest
from heddle_core.domain.ids import ThreadId, new_thread_id
from heddle_core.ports.graph_runtime import StateUpdate, Updated
from tests.support.graphs.worlds import GraphWorld, a_claim, a_thread


@pytest.fixture
def world() -> GraphWorld:
    return GraphWorld()


async def a_run(world: GraphWorld, graph_id: str, **kwargs: Any) -> ThreadId:
    claim = a_claim(graph_id, {"log": ["in"]}, **kwargs)
    await world.run(claim)
    return claim.thread_id


async def updated(world: GraphWorld, graph_id: str, thread: ThreadId, *steps: Any, **options: Any) -> Updated:
    updates = [[StateUpdate(**update) for update in (step if isinstance(step, list) else [step])] for step in steps]
    return await world.states.update(a_thread(graph_id, thread), options.get("checkpoint"), updates)


async def test_an_empty_thread_has_an_empty_state(world: GraphWorld) -> None:
    assert await world.state("two", new_thread_id()) == {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": None,
        "created_at": None,
        "checkpoint": None,
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": None,
        "parent_checkpoint_id": None,
    }


async def test_a_state_says_where_it_is_and_where_it_came_from(world: GraphWorld) -> None:
    thread = await a_run(world, "two")
    state = await world.state("two", thread)

    assert state["values"] == {"log": ["in", "first", "second"]}
    assert (state["next"], state["tasks"]) == ([], [])
    assert state["checkpoint"] == {
        "thread_id": str(thread),
        "checkpoint_ns": "",
        "checkpoint_id": state["checkpoint_id"],
    }
    assert state["parent_checkpoint"]["checkpoint_id"] == state["parent_checkpoint_id"]
    assert (state["metadata"]["source"], state["metadata"]["step"]) == ("loop", 2)
    assert state["created_at"].endswith("+00:00")


async def test_a_waiting_task_shows_its_question(world: GraphWorld) -> None:
    thread = await a_run(world, "asks")
    state = await world.state("asks", thread)

    [task] = state["tasks"]
    assert (task["name"], task["error"], task["state"], task["result"]) == ("ask", None, None, None)
    assert task["path"] == ["__pregel_pull", "ask"]
    assert state["interrupts"] == task["interrupts"]
    assert [set(question) for question in task["interrupts"]] == [{"id", "value"}]


async def test_a_failed_task_shows_its_error_as_python_wrote_it(world: GraphWorld) -> None:
    claim = a_claim("failing", {"log": ["value"]})
    with pytest.raises(Exception, match="boom"):
        await world.run(claim)
    [task] = (await world.state("failing", claim.thread_id))["tasks"]

    assert task["error"] == "ValueError('boom \ufffd happened')" or task["error"].startswith("ValueError('boom")


async def test_history_is_newest_first_and_its_root_has_no_parent(world: GraphWorld) -> None:
    thread = await a_run(world, "two")
    rows = await world.history("two", thread)

    assert [row["next"] for row in rows] == [[], ["second"], ["first"], ["__start__"]]
    assert [row["parent_checkpoint_id"] for row in rows[:-1]] == [row["checkpoint_id"] for row in rows[1:]]
    assert rows[-1]["parent_checkpoint"] is None
    assert rows[1]["tasks"][0]["result"] == {"log": ["second"]}


@pytest.mark.parametrize("form", ["string", "checkpoint", "config"])
async def test_history_before_a_checkpoint_in_every_form(world: GraphWorld, form: str) -> None:
    thread = await a_run(world, "two")
    rows = await world.history("two", thread)
    newest = rows[0]["checkpoint"]
    before = {"string": newest["checkpoint_id"], "checkpoint": newest, "config": {"configurable": newest}}[form]

    assert await world.history("two", thread, before=before, limit=2) == rows[1:3]


async def test_history_filters_by_metadata_and_ignores_a_bound_without_an_id(world: GraphWorld) -> None:
    thread = await a_run(world, "two")

    assert len(await world.history("two", thread, metadata={"source": "input"})) == 1
    assert len(await world.history("two", thread, before={"thread_id": str(thread)})) == 4
    assert len(await world.history("two", thread, checkpoint={"thread_id": str(thread)})) == 4


async def test_a_state_at_a_checkpoint_and_at_only_a_thread_id(world: GraphWorld) -> None:
    thread = await a_run(world, "two")
    rows = await world.history("two", thread)

    assert await world.state("two", thread, checkpoint=rows[2]["checkpoint"]) == rows[2]
    assert await world.state("two", thread, checkpoint={"thread_id": str(thread)}) == rows[0]


async def test_a_client_cannot_read_another_thread_through_its_checkpoint(world: GraphWorld) -> None:
    theirs = await a_run(world, "two")
    mine = new_thread_id()
    graph = a_thread("two", mine, configurable={"thread_id": str(theirs), "checkpoint_id": "x"})

    state = orjson.loads(await world.states.get(graph, {"thread_id": str(theirs)}, subgraphs=False))
    assert state["values"] == {}


async def test_an_unknown_checkpoint_is_echoed_with_no_values(world: GraphWorld) -> None:
    thread = await a_run(world, "two")
    unknown = "1f000000-0000-6000-8000-000000000000"
    state = await world.state("two", thread, checkpoint={"checkpoint_id": unknown})

    assert (state["values"], state["next"], state["metadata"]) == ({}, [], None)
    assert state["checkpoint"]["checkpoint_id"] == unknown


async def test_a_subgraph_is_a_reference_or_a_nested_state(world: GraphWorld) -> None:
    thread = await a_run(world, "asking_parent")
    [plain] = (await world.state("asking_parent", thread))["tasks"]
    [nested] = (await world.state("asking_parent", thread, subgraphs=True))["tasks"]

    assert plain["state"] is None
    assert plain["checkpoint"]["checkpoint_ns"] == f"inner:{plain['id']}"
    assert nested["checkpoint"] is None
    assert nested["state"]["next"] == ["ask"]
    assert nested["state"]["checkpoint"]["checkpoint_ns"] == f"inner:{plain['id']}"
    inside = await world.state("asking_parent", thread, checkpoint=plain["checkpoint"])
    assert inside["next"] == ["ask"]


async def test_an_update_is_as_if_its_node_had_written_it(world: GraphWorld) -> None:
    thread = await a_run(world, "two", interrupt_before=("second",))
    written = await updated(world, "two", thread, {"values": {"log": ["edited"]}, "as_node": "first"})

    assert orjson.loads(written.state.values or b"") == {"log": ["in", "first", "edited"]}
    assert written.state.has_next
    state = await world.state("two", thread)
    assert (state["next"], state["metadata"]["source"]) == (["second"], "update")
    assert written.checkpoint == state["checkpoint"]
    assert orjson.loads(written.snapshot) == state
    assert written.state.checkpoint_id == state["checkpoint_id"]


async def test_an_update_without_a_node_is_the_last_ones(world: GraphWorld) -> None:
    thread = await a_run(world, "two")
    written = await updated(world, "two", thread, {"values": {"log": ["more"]}})

    assert not written.state.has_next


async def test_a_copy_makes_a_sibling_and_the_end_clears(world: GraphWorld) -> None:
    thread = await a_run(world, "two", interrupt_before=("second",))
    base = (await world.state("two", thread))["checkpoint"]
    await updated(world, "two", thread, {"as_node": "__copy__"}, checkpoint=base)
    copied = await world.state("two", thread)

    assert (copied["metadata"]["source"], copied["next"]) == ("fork", ["second"])
    assert copied["checkpoint_id"] != base["checkpoint_id"]
    ended = await updated(world, "two", thread, {"as_node": "__end__"})
    assert (ended.state.has_next, ended.state.interrupts) == (False, b"{}")


async def test_supersteps_build_a_thread_from_its_input(world: GraphWorld) -> None:
    thread = new_thread_id()
    steps = [
        {"values": {"log": ["in"]}, "as_node": "__input__"},
        {"values": {"log": ["in"]}, "as_node": "__start__"},
        {"values": {"log": ["first"]}, "as_node": "first"},
        {"command": {"update": {"log": ["command"]}}, "as_node": "second"},
    ]
    written = await updated(world, "two", thread, *steps)

    assert orjson.loads(written.state.values or b"") == {"log": ["in", "first", "command"]}
    sources = [(row["metadata"]["source"], row["metadata"]["step"]) for row in await world.history("two", thread)]
    assert sources[-1] == ("input", -1)


async def test_several_updates_in_one_superstep(world: GraphWorld) -> None:
    thread = await a_run(world, "two")
    both = [{"values": {"log": ["a"]}, "as_node": "first"}, {"values": {"log": ["b"]}, "as_node": "second"}]

    written = await updated(world, "two", thread, both)
    assert orjson.loads(written.state.values or b"")["log"][-2:] == ["a", "b"]


@pytest.mark.parametrize(
    ("graph_id", "steps", "text"),
    [
        ("two", [{"values": {"log": []}, "as_node": "nowhere"}], "Node nowhere does not exist"),
        ("parallel", [{"values": {"log": []}}], "Ambiguous update, specify as_node"),
        ("two", [], "No supersteps provided"),
        ("two", [[]], "No updates provided"),
        ("two", [{"values": "not a state", "as_node": "first"}], "Expected dict"),
    ],
)
async def test_what_the_graph_refuses_is_a_bad_request(
    world: GraphWorld, graph_id: str, steps: list[Any], text: str
) -> None:
    thread = await a_run(world, graph_id)
    with pytest.raises(BadRequest, match=text):
        await updated(world, graph_id, thread, *steps)


async def test_an_update_of_a_subgraph_changes_the_subgraph(world: GraphWorld) -> None:
    thread = await a_run(world, "asking_parent")
    [task] = (await world.state("asking_parent", thread))["tasks"]
    written = await updated(
        world,
        "asking_parent",
        thread,
        {"values": {"log": ["answered"]}, "as_node": "ask"},
        checkpoint=task["checkpoint"],
    )

    assert written.checkpoint["checkpoint_ns"] == task["checkpoint"]["checkpoint_ns"]
    inside = await world.state("asking_parent", thread, checkpoint=task["checkpoint"])
    assert inside["values"]["log"][-1] == "answered"
    assert written.state.has_next  # of the root


async def test_delta_channels_are_read_and_updated(world: GraphWorld) -> None:
    thread = await a_run(world, "delta")
    written = await updated(world, "delta", thread, {"values": {"log": ["more"]}})

    assert orjson.loads(written.state.values or b"") == {"log": ["in", "delta", "more"]}
    assert (await world.state("delta", thread))["values"] == {"log": ["in", "delta", "more"]}


@pytest.mark.parametrize("graph_id", ["two", "narrow", "asks", "functional"])
async def test_the_output_of_a_run_can_be_read_again(world: GraphWorld, graph_id: str) -> None:
    claim = a_claim(graph_id, 21 if graph_id == "functional" else {"log": ["in"]})
    answered = await world.run(claim)
    state = await world.state(graph_id, claim.thread_id)
    graph = a_thread(graph_id, claim.thread_id)

    assert orjson.loads(await world.states.output(graph, state["checkpoint_id"])) == answered
    assert await world.states.output(graph, "1f000000-0000-6000-8000-000000000000") in (b"{}", b"null")
