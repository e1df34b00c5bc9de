"""What graphs there are and what they look like (server-api 3.2)."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast, get_type_hints

import structlog
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, TypeAdapter, create_model

from heddle_core.domain.errors import GraphLoadError
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.ports.graph_runtime import Access, GraphInfo
from heddle_server.graphs.encoding import encode
from heddle_server.graphs.guests import outside_any_graph
from heddle_server.graphs.loader import Graph, GraphLoader

log = structlog.get_logger(__name__)

_START = "__start__"
_END = "__end__"


class Catalog:
    """`GraphCatalog` for LangGraph. Answers about a graph that is always the same are made once."""

    def __init__(self, loader: GraphLoader) -> None:
        self._loader = loader
        self._known: dict[tuple[object, ...], Any] = {}

    @property
    def graphs(self) -> Mapping[str, GraphInfo]:
        return self._loader.graphs

    async def drawing(self, graph_id: str, config: JsonObject, xray: bool | int) -> Encoded:
        async def draw(graph: Graph) -> Encoded:
            return encode(_drawing((await graph.aget_graph(_runnable(config), xray=xray)).to_json()))

        # `True == 1`, but they are different depths.
        return cast(Encoded, await self._answer(("drawing", graph_id, repr(xray)), graph_id, config, draw))

    async def schemas(self, graph_id: str, config: JsonObject) -> Encoded:
        async def describe(graph: Graph) -> Encoded:
            # Building the schema of a message state takes tenths of a second.
            return encode({"graph_id": graph_id, **await asyncio.to_thread(_schemas, graph)})

        return cast(Encoded, await self._answer(("schemas", graph_id), graph_id, config, describe))

    async def subgraphs(self, graph_id: str, config: JsonObject, namespace: str | None, *, recurse: bool) -> Encoded:
        async def describe(graph: Graph) -> Encoded:
            found = graph.aget_subgraphs(namespace=namespace, recurse=recurse)
            return encode({name: await asyncio.to_thread(_schemas, subgraph) async for name, subgraph in found})

        key = ("subgraphs", graph_id, namespace, recurse)
        return cast(Encoded, await self._answer(key, graph_id, config, describe))

    async def node_names(self, graph_id: str, config: JsonObject) -> frozenset[str] | None:
        async def name(graph: Graph) -> frozenset[str]:
            return frozenset(graph.nodes) - {_START} | {_END}

        try:
            return cast(frozenset[str], await self._answer(("nodes", graph_id), graph_id, config, name))
        except GraphLoadError:
            return None  # a factory that needs more than this config may still run

    async def _answer(
        self, key: tuple[object, ...], graph_id: str, config: JsonObject, ask: Callable[[Graph], Any]
    ) -> Any:
        with outside_any_graph():
            if (static := self._loader.static(graph_id)) is not None:
                if key not in self._known:
                    self._known[key] = await ask(static)
                return self._known[key]
            async with self._loader.get_graph(graph_id, _runnable(config), Access.ASSISTANT) as graph:
                return await ask(graph)


def _runnable(config: JsonObject) -> RunnableConfig:
    return cast(RunnableConfig, {"configurable": {}, **config})


def _drawing(found: JsonObject) -> JsonObject:
    """The graph's picture without the Python paths of its nodes."""
    for node in found["nodes"]:
        if isinstance(node.get("data"), dict):
            node["data"] = {"name": node["data"].get("name", node["id"])}
    return found


def _schemas(graph: object) -> JsonObject:
    """All schemas of a graph; one that cannot be built is null."""
    builder = getattr(graph, "builder", None)
    context = _schema(graph, "get_context_jsonschema", getattr(graph, "context_schema", None))
    return {
        "input_schema": _schema(graph, "get_input_jsonschema", getattr(builder, "input_schema", None)),
        "output_schema": _schema(graph, "get_output_jsonschema", getattr(builder, "output_schema", None)),
        "state_schema": _type_schema(getattr(builder, "state_schema", None)),
        "config_schema": context,  # `configurable` mirrors the context
        "context_schema": context,
    }


def _schema(graph: object, method: str, kind: Any) -> JsonObject | None:
    """LangGraph's own schema, or one of the type itself."""
    with contextlib.suppress(Exception), warnings.catch_warnings():  # guest types: building may raise anything
        warnings.simplefilter("ignore")
        if (found := getattr(graph, method)()) is not None:
            return cast(JsonObject, found)
    return _type_schema(kind)


def _type_schema(kind: Any) -> JsonObject | None:
    if kind is None:
        return None
    for build in (_adapted, _modelled):
        with contextlib.suppress(Exception):  # guest types again
            return build(kind)
    log.info("schema_not_built", type=getattr(kind, "__name__", repr(kind)))
    return None


def _adapted(kind: Any) -> JsonObject:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_json_schema()
    return TypeAdapter(kind).json_schema()


def _modelled(kind: Any) -> JsonObject:
    """By its annotations: before Python 3.12 Pydantic refuses the standard library's TypedDict."""
    required: frozenset[str] = getattr(kind, "__required_keys__", frozenset())
    hints: dict[str, Any] = {
        name: (hint, ... if name in required else None)
        for name, hint in get_type_hints(kind, include_extras=True).items()
    }
    model: type[BaseModel] = create_model(kind.__name__, **hints)
    return model.model_json_schema()
