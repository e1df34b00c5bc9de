"""Drawings, schemas and names of graphs."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.graphs import samples
from tests.support.graphs.worlds import GraphWorld


@pytest.fixture
def world() -> GraphWorld:
    samples.calls.clear()
    return GraphWorld()


async def drawn(world: GraphWorld, graph_id: str, xray: bool | int = False) -> Any:
    return orjson.loads(await world.catalog.drawing(graph_id, {}, xray))


async def described(world: GraphWorld, graph_id: str) -> Any:
    return orjson.loads(await world.catalog.schemas(graph_id, {}))


async def test_a_drawing_has_nodes_and_edges_and_no_python_paths(world: GraphWorld) -> None:
    assert await drawn(world, "two") == {
        "nodes": [
            {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
            {"id": "first", "type": "runnable", "data": {"name": "first"}},
            {"id": "second", "type": "runnable", "data": {"name": "second"}},
            {"id": "__end__"},
        ],
        "edges": [
            {"source": "__start__", "target": "first"},
            {"source": "first", "target": "second"},
            {"source": "second", "target": "__end__"},
        ],
    }


async def test_conditional_edges_say_so(world: GraphWorld) -> None:
    edges = (await drawn(world, "tool_agent"))["edges"]
    assert {"source": "agent", "target": "tools", "conditional": True} in edges


async def test_xray_looks_into_subgraphs(world: GraphWorld) -> None:
    for xray in (True, 1, 2):
        ids = [node["id"] for node in (await drawn(world, "parent", xray))["nodes"]]
        assert "inner:child" in ids
    assert "inner" in [node["id"] for node in (await drawn(world, "parent", 0))["nodes"]]


async def test_schemas_of_a_state_and_its_output(world: GraphWorld) -> None:
    found = await described(world, "narrow")

    assert found["graph_id"] == "narrow"
    assert set(found["input_schema"]["properties"]) == {"log", "secret"}
    assert set(found["output_schema"]["properties"]) == {"log"}
    assert set(found["state_schema"]["properties"]) == {"log", "secret"}
    assert (found["config_schema"], found["context_schema"]) == (None, None)


async def test_a_context_schema_is_the_schema_of_the_config_too(world: GraphWorld) -> None:
    found = await described(world, "with_context")

    assert set(found["context_schema"]["properties"]) == {"model", "size"}
    assert found["config_schema"] == found["context_schema"]


async def test_a_message_state_describes_every_kind_of_message(world: GraphWorld) -> None:
    found = await described(world, "chat")
    assert {"AIMessage", "HumanMessage", "ToolMessage"} <= set(found["input_schema"]["$defs"])


async def test_a_functional_graph_has_its_schemas(world: GraphWorld) -> None:
    found = await described(world, "functional")
    assert found["input_schema"]["type"] == "integer"
    assert found["state_schema"] is None


async def test_a_type_without_a_schema_is_null(world: GraphWorld) -> None:
    found = await described(world, "unschemed")
    assert (found["input_schema"], found["state_schema"]) == (None, None)


async def test_subgraphs_by_name_and_namespace(world: GraphWorld) -> None:
    async def subgraphs(namespace: str | None, *, recurse: bool = False) -> Any:
        return orjson.loads(await world.catalog.subgraphs("parent", {}, namespace, recurse=recurse))

    every = await subgraphs(None, recurse=True)
    assert list(every) == ["inner"]
    assert "graph_id" not in every["inner"]
    assert await subgraphs("inner") == every
    assert await subgraphs("nothing") == {}


async def test_node_names_are_what_a_goto_may_use(world: GraphWorld) -> None:
    assert await world.catalog.node_names("two", {}) == frozenset({"first", "second", "__end__"})
    assert await world.catalog.node_names("config_factory", {}) == frozenset({"echo_node", "__end__"})
    assert await world.catalog.node_names("broken_factory", {}) is None


async def test_a_factory_is_asked_for_each_answer_with_the_assistants_config(world: GraphWorld) -> None:
    config = {"configurable": {"flavour": "plum"}}
    for _ in range(2):
        await world.catalog.schemas("config_factory", config)
    await world.catalog.drawing("runtime_factory", config, False)

    assert samples.calls == [("config", "plum"), ("config", "plum"), ("assistants.read", None)]
