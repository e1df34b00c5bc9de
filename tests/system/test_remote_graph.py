"""A graph of this server used from another program through `RemoteGraph`."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command

from tests.support.server import Server
from tests.system.graphs import Log


def remote(server: Server, graph: str) -> RemoteGraph:
    return RemoteGraph(graph, url=server.url, api_key=None)


@pytest.fixture
def config() -> RunnableConfig:
    """A thread that does not exist yet: the first run makes it."""
    return {"configurable": {"thread_id": str(uuid4())}}


async def test_it_is_invoked_with_and_without_a_thread(server: Server, config: RunnableConfig) -> None:
    graph = remote(server, "line")
    assert await graph.ainvoke({"log": ["in"]}) == {"log": ["in", "one", "two"]}
    assert await graph.ainvoke({"log": []}, config) == {"log": ["one", "two"]}
    assert (await graph.ainvoke({"log": []}, config))["log"] == ["one", "two"] * 2


def test_it_is_invoked_from_synchronous_code(server: Server, config: RunnableConfig) -> None:
    graph = remote(server, "line")
    assert graph.invoke({"log": []}, config) == {"log": ["one", "two"]}
    assert graph.get_state(config).values == {"log": ["one", "two"]}
    assert list(graph.stream({"log": []}, config, stream_mode="updates")) == [
        {"one": {"log": ["one"]}},
        {"two": {"log": ["two"]}},
    ]


async def test_it_streams_its_subgraphs_under_their_namespace(server: Server, config: RunnableConfig) -> None:
    graph = remote(server, "parent")
    parts: list[Any] = [
        part async for part in graph.astream({"log": []}, config, stream_mode=["updates", "values"], subgraphs=True)
    ]
    inner = [(namespace, data) for namespace, mode, data in parts if mode == "updates" and namespace]
    assert inner[0][1] == {"inner": {"log": ["inner"]}}
    assert inner[0][0][0].startswith("sub:")
    assert next(data for namespace, mode, data in parts if mode == "updates" and not namespace) == {
        "outer": {"log": ["outer"]}
    }
    alone: list[Any] = [part async for part in graph.astream(None, config, stream_mode="updates")]
    assert list(alone[-1]) == ["__interrupt__"]


async def test_tokens_arrive_as_messages(server: Server) -> None:
    graph = remote(server, "chat")
    asked = {"messages": [{"role": "user", "content": "hi"}]}
    parts: list[Any] = [part async for part in graph.astream(asked, stream_mode="messages")]
    assert "".join(chunk["content"] for chunk, _ in parts).split() == ["Polly", "wants", "a", "cracker"]
    assert {about["langgraph_node"] for _, about in parts} == {"talk"}


async def test_its_state_is_read_changed_and_answered(server: Server, config: RunnableConfig) -> None:
    graph = remote(server, "ask")
    await graph.ainvoke({"log": []}, config)
    state = await graph.aget_state(config)
    assert state.next == ("ask",)
    assert state.tasks[0].interrupts[0].value == {"question": "first?"}
    history = [each async for each in graph.aget_state_history(config)]
    assert history[0].values == state.values
    assert history[-1].metadata is not None
    assert history[-1].metadata["source"] == "input"

    await graph.ainvoke(Command(resume="a"), config)
    done: Any = await graph.ainvoke(Command(resume="b"), config)
    assert done["log"] == ["before", "a", "b", "after"]
    written = await graph.aupdate_state(config, {"log": ["told"]}, as_node="after")
    assert (await graph.aget_state(config)).values["log"][-1] == "told"
    at = await graph.aget_state(written)
    assert at.values["log"][-1] == "told"
    early = await graph.aget_state(history[-1].config)
    assert early.next == ("__start__",)
    bounded = [each async for each in graph.aget_state_history(config, before=history[1].config)]
    assert [each.config for each in bounded] == [each.config for each in history[2:]]


async def test_its_drawing_is_that_of_the_graph(server: Server) -> None:
    drawn = await remote(server, "parent").aget_graph(xray=True)
    assert "sub:ask" in drawn.nodes
    assert "-->" in drawn.draw_mermaid()
    assert set((await remote(server, "parent").aget_graph()).nodes) >= {"outer", "sub", "last"}


async def test_a_failure_of_the_graph_is_raised_where_it_is_called(server: Server) -> None:
    with pytest.raises(RemoteException) as raised:
        await remote(server, "fail").ainvoke({"value": "value"})
    assert "boom happened" in str(raised.value)


async def test_breakpoints_and_the_context_go_along(server: Server, config: RunnableConfig) -> None:
    graph = remote(server, "line")
    await graph.ainvoke({"log": []}, config, interrupt_before=["two"])
    assert (await graph.aget_state(config)).next == ("two",)
    assert (await graph.ainvoke(None, config))["log"] == ["one", "two"]
    told: Any = await remote(server, "tone").ainvoke({"log": []}, context={"tone": "dry"})
    assert told["log"] == ["dry"]


async def test_it_is_a_node_of_another_graph(server: Server) -> None:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Log)
    builder.add_node("far", remote(server, "routes"))
    builder.add_edge(START, "far")
    builder.add_edge("far", END)
    done = await builder.compile().ainvoke({"log": [], "value": "left"})
    assert done["log"] == ["routed", "left"]


async def test_its_question_stops_the_graph_around_it(server: Server) -> None:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Log)
    builder.add_node("far", remote(server, "ask"))
    builder.add_edge(START, "far")
    near = builder.compile(checkpointer=InMemorySaver())
    config: RunnableConfig = {"configurable": {"thread_id": str(uuid4())}}
    paused: Any = await near.ainvoke({"log": []}, config)
    assert paused["__interrupt__"][0].value == {"question": "first?"}
    assert (await near.aget_state(config)).next == ("far",)
