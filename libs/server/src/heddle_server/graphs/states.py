"""Reads and changes the state of threads that are not running (server-api 2.4, 4.4, 4.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot
from langgraph.types import StateUpdate as GraphUpdate

from heddle_core.domain.errors import BadRequest, HeddleError
from heddle_core.domain.ids import ThreadId
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.ports.graph_runtime import Access, StateUpdate, ThreadGraph, Updated
from heddle_server.graphs.answers import INTERRUPT, answer
from heddle_server.graphs.encoding import encode, text_of
from heddle_server.graphs.guests import outside_any_graph
from heddle_server.graphs.loader import Graph, GraphLoader
from heddle_server.graphs.run_call import CLAIM_KEY, position, to_command
from heddle_server.graphs.snapshots import summary, thread_state
from heddle_server.graphs.state_views import NeedsObjects, view_of
from heddle_server.graphs.stream_events import reference

log = structlog.get_logger(__name__)


class ThreadStates:
    """`GraphStates` for LangGraph. `detached` makes a ledger for a thread that no run has claimed."""

    def __init__(self, loader: GraphLoader, detached: Callable[[ThreadId], object]) -> None:
        self._loader = loader
        self._detached = detached

    async def get(self, graph: ThreadGraph, checkpoint: JsonObject | None, *, subgraphs: bool) -> Encoded:
        async with self._opened(graph, Access.READ) as opened:
            snapshot = await _snapshot(opened, _config(graph, position(checkpoint)), subgraphs=subgraphs)
            return encode(thread_state(snapshot))

    async def output(self, graph: ThreadGraph, checkpoint_id: str) -> Encoded:
        """What `wait` answered for a run that ended at this root checkpoint; `{}` when it is gone."""
        async with self._opened(graph, Access.READ) as opened:
            snapshot = await _snapshot(opened, _config(graph, {"checkpoint_id": checkpoint_id}))
            values = snapshot.values
            if snapshot.interrupts and isinstance(values, dict):
                values = {**values, INTERRUPT: snapshot.interrupts}
            return answer(opened, values)

    async def history(
        self,
        graph: ThreadGraph,
        *,
        limit: int,
        before: JsonObject | None,
        metadata: JsonObject | None,
        checkpoint: JsonObject | None,
    ) -> Encoded:
        where = position(checkpoint)
        async with self._opened(graph, Access.READ) as opened:
            config = _config(graph, where)
            bounds = {"filter": metadata, "before": _before(graph, before, where), "limit": limit}
            return encode([thread_state(snapshot) for snapshot in await _snapshots(opened, config, bounds)])

    async def update(
        self, graph: ThreadGraph, checkpoint: JsonObject | None, updates: Sequence[Sequence[StateUpdate]]
    ) -> Updated:
        ledger = self._detached(graph.thread_id)
        config = _config(graph, position(checkpoint), ledger=ledger)
        steps = [[_graph_update(update) for update in step] for step in updates]
        async with self._opened(graph, Access.UPDATE) as opened:
            written = await _write(opened, config, steps)
            snapshot = await opened.aget_state(_config(graph, {}, ledger=ledger))
            return Updated(
                checkpoint=reference(written) or {},
                ledger=ledger,
                state=summary(snapshot),
                snapshot=encode(thread_state(snapshot)),
            )

    @asynccontextmanager
    async def _opened(self, graph: ThreadGraph, access: Access) -> AsyncIterator[Graph]:
        with outside_any_graph():
            if (static := self._loader.static(graph.graph_id)) is not None:
                yield static
                return
            config = cast(RunnableConfig, {**graph.config, **_config(graph, {})})
            async with self._loader.get_graph(graph.graph_id, config, access) as made:
                yield made


async def _snapshot(graph: Graph, config: RunnableConfig, *, subgraphs: bool = False) -> StateSnapshot:
    if not subgraphs and (view := _view(graph, config)) is not None:
        with _falling_back():
            return await view.aget_state(config)
    return await graph.aget_state(config, subgraphs=subgraphs)


async def _snapshots(graph: Graph, config: RunnableConfig, bounds: dict[str, Any]) -> list[StateSnapshot]:
    if (view := _view(graph, config)) is not None:
        with _falling_back():
            return [snapshot async for snapshot in view.aget_state_history(config, **bounds)]
    return [snapshot async for snapshot in graph.aget_state_history(config, **bounds)]


def _view(graph: Graph, config: RunnableConfig) -> Graph | None:
    """A quicker way to read root states, where there is one."""
    return None if config["configurable"]["checkpoint_ns"] else view_of(graph)


@contextmanager
def _falling_back() -> Iterator[None]:
    """What a view cannot read is read with the graph itself, which then has the last word."""
    try:
        yield
    except NeedsObjects:
        pass
    except HeddleError:
        raise
    except Exception as problem:  # the guest's state classes may not take plain dicts
        log.debug("state_view_failed", problem=type(problem).__name__)


async def _write(graph: Graph, config: RunnableConfig, steps: list[list[GraphUpdate]]) -> RunnableConfig:
    try:
        return await graph.abulk_update_state(config, steps)
    except HeddleError:
        raise  # the checkpointer's
    except Exception as problem:  # the graph's own channels and branches run here
        log.info("state_update_refused", problem=type(problem).__name__, exc_info=problem)
        raise BadRequest(text_of(problem) or type(problem).__name__) from problem


def _config(graph: ThreadGraph, where: JsonObject, *, ledger: object | None = None) -> RunnableConfig:
    """A config for this thread and place. Nothing that a client put into the configurable can move it elsewhere."""
    given = graph.config.get("configurable")
    found = given if isinstance(given, Mapping) else {}
    configurable: dict[str, Any] = {
        name: value for name, value in found.items() if not name.startswith(("__", "checkpoint_"))
    }
    configurable |= {"thread_id": str(graph.thread_id), "checkpoint_ns": "", **where}
    if ledger is not None:
        configurable[CLAIM_KEY] = ledger
    return {"configurable": configurable}


def _before(graph: ThreadGraph, before: Any, where: JsonObject) -> RunnableConfig | None:
    """`before` as a bare id, a checkpoint or a config; without an id it sets no bound."""
    found = {"checkpoint_id": before} if isinstance(before, str) else position(before)
    if "checkpoint_id" not in found:
        return None
    return _config(graph, {**where, **found})


def _graph_update(update: StateUpdate) -> GraphUpdate:
    values: Any = to_command(update.command)
    return GraphUpdate(update.values if values is None else values, update.as_node)
