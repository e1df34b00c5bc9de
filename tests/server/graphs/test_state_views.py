"""Reading states as stored shows what reading them as objects shows."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from heddle_core.domain.errors import GraphFailed
from heddle_core.domain.ids import ThreadId
from heddle_server.graphs.encoding import encode
from heddle_server.graphs.snapshots import thread_state
from heddle_server.graphs.state_views import NeedsObjects, view_of
from tests.support.graphs.worlds import GraphWorld, a_claim

QUESTION = {"messages": [{"role": "user", "content": "hi", "id": "q", "extra_field": 1}]}


@pytest.fixture
def world() -> GraphWorld:
    return GraphWorld()


async def read_as_objects(world: GraphWorld, graph_id: str, thread: ThreadId) -> list[Any]:
    graph = world.loader.static(graph_id)
    assert graph is not None
    config: Any = {"configurable": {"thread_id": str(thread), "checkpoint_ns": ""}}
    rows = [thread_state(snapshot) async for snapshot in graph.aget_state_history(config)]
    return [orjson.loads(encode(row)) for row in [thread_state(await graph.aget_state(config)), *rows]]


@pytest.mark.parametrize(
    ("graph_id", "given"),
    [
        ("chat", QUESTION),
        ("tool_agent", QUESTION),
        ("chat_parent", QUESTION),
        ("modelled", QUESTION),
        ("two", {"log": ["in"]}),
        ("asks", {"log": ["in"]}),
        ("asking_parent", {"log": ["in"]}),
        ("fanned", {"log": ["in"]}),
        ("delta", {"log": ["in"]}),
        ("failing", {"log": ["value"]}),
        ("untracked", {"log": ["in"]}),
    ],
)
async def test_both_ways_show_the_same(world: GraphWorld, graph_id: str, given: Any) -> None:
    claim = a_claim(graph_id, given)
    try:
        await world.run(claim)
    except GraphFailed:
        assert graph_id == "failing"

    state = await world.state(graph_id, claim.thread_id)
    history = await world.history(graph_id, claim.thread_id)
    assert [state, *history] == await read_as_objects(world, graph_id, claim.thread_id)


async def test_messages_are_left_as_they_are_stored(world: GraphWorld) -> None:
    claim = a_claim("chat", QUESTION)
    await world.run(claim)
    graph = world.loader.static("chat")
    assert graph is not None
    view = view_of(graph)
    assert view is not None

    snapshot = await view.aget_state({"configurable": {"thread_id": str(claim.thread_id), "checkpoint_ns": ""}})
    assert [type(message) for message in snapshot.values["messages"]] == [dict, dict]


async def test_a_half_finished_step_is_read_with_the_graph_itself(world: GraphWorld) -> None:
    claim = a_claim("half", QUESTION)
    await world.run(claim)  # one of two siblings asked, the other has written
    graph = world.loader.static("half")
    assert graph is not None
    view = view_of(graph)
    assert view is not None

    with pytest.raises(NeedsObjects):
        await view.aget_state({"configurable": {"thread_id": str(claim.thread_id), "checkpoint_ns": ""}})
    state = await world.state("half", claim.thread_id)
    assert [message["content"] for message in state["values"]["messages"]] == ["hi", "hello"]
