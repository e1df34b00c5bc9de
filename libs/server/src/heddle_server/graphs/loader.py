"""Graphs by id, ready to run with this server's checkpointer and store.

A compiled graph or a builder is prepared once. A factory is called for every access and its graph lives as long as
the block that asked for it.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from copy import copy
from pathlib import Path
from typing import Any, TypeAlias

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore

from heddle_core.domain.errors import GraphLoadError, HeddleError
from heddle_core.ports.graph_runtime import Access, GraphInfo
from heddle_server.graphs.factories import Factory, Wish
from heddle_server.graphs.sources import GraphSpec, Sources

log = structlog.get_logger(__name__)

Graph: TypeAlias = Pregel[Any, Any, Any, Any]


class GraphLoader:
    """The graphs of one project. `load` or `load_all` imports guest code: call it before serving."""

    def __init__(
        self,
        specs: Iterable[GraphSpec],
        base: Path,
        *,
        dependencies: Iterable[str] = (),
        checkpointer: BaseCheckpointSaver[Any],
        store: BaseStore | None = None,
    ) -> None:
        self._specs = {spec.graph_id: spec for spec in specs}
        self._sources = Sources(base, tuple(dependencies))
        self._checkpointer = checkpointer
        self._store = store
        self._static: dict[str, Graph] = {}
        self._factories: dict[str, Factory] = {}

    @property
    def graphs(self) -> Mapping[str, GraphInfo]:
        return {
            graph_id: GraphInfo(graph_id=graph_id, description=spec.description)
            for graph_id, spec in self._specs.items()
        }

    def load_all(self) -> None:
        """Import every graph. Raises `GraphLoadError` for the first that cannot be loaded."""
        for graph_id in self._specs:
            self.load(graph_id)

    def load(self, graph_id: str) -> None:
        """Import one graph, if it is not imported yet."""
        if graph_id in self._static or graph_id in self._factories:
            return
        spec = self._specs.get(graph_id)
        if spec is None:
            known = ", ".join(sorted(self._specs)) or "none"
            raise GraphLoadError(f"graph '{graph_id}' is not in the configuration, which has: {known}")
        found = self._sources.variable(spec)
        if isinstance(found, (Pregel, StateGraph)):
            self._static[graph_id] = self._prepare(graph_id, found)
        elif callable(found):
            self._factories[graph_id] = Factory(graph_id, found, self._store)
        else:
            raise GraphLoadError(_not_a_graph(graph_id, found, f"{spec.path} is"))

    def static(self, graph_id: str) -> Graph | None:
        """The graph, if it is the same for every access; None when a factory makes it."""
        self.load(graph_id)
        return self._static.get(graph_id)

    @asynccontextmanager
    async def get_graph(
        self, graph_id: str, config: RunnableConfig, access: Access, context: Any = None
    ) -> AsyncIterator[Graph]:
        """The graph for one access. Raises `GraphLoadError` when there is no such graph or its factory fails.

        A factory that is a context manager sees the errors of the caller's block, and cannot hide them.
        """
        if (static := self.static(graph_id)) is not None:
            yield static
            return
        building = self._factories[graph_id].build(Wish(access=access, config=config, context=context))
        try:
            found = await building.__aenter__()
        except (KeyboardInterrupt, CancelledError, HeddleError):
            raise
        except BaseException as problem:  # the guest's factory: it may raise anything, `SystemExit` too
            raise GraphLoadError(
                f"graph '{graph_id}': its factory failed: {type(problem).__name__}: {problem}"
            ) from problem
        try:
            yield self._prepare(graph_id, found, quiet=True)
        except BaseException as problem:
            # The factory may see the error; it may not hide it, or a failed run would look finished.
            await building.__aexit__(type(problem), problem, problem.__traceback__)
            raise
        else:
            await building.__aexit__(None, None, None)

    def get_graph_for_validation(self, graph_id: str) -> AbstractAsyncContextManager[Graph]:
        """The graph as it is with an empty configuration, for checks that belong to no thread or assistant."""
        return self.get_graph(graph_id, {"configurable": {}}, Access.ASSISTANT)

    def _prepare(self, graph_id: str, found: Any, *, quiet: bool = False) -> Graph:
        """The graph under our name, with our checkpointer and store."""
        if isinstance(found, StateGraph):
            try:
                return found.compile(checkpointer=self._checkpointer, store=self._store, name=graph_id)
            except Exception as problem:  # the guest's graph may be anything
                raise GraphLoadError(f"graph '{graph_id}' cannot be compiled: {problem}") from problem
        if not isinstance(found, Pregel):
            raise GraphLoadError(_not_a_graph(graph_id, found, "its factory made"))
        if not quiet:
            _warn_of_ignored(graph_id, found)
        ours: Graph = copy(found)
        ours.checkpointer, ours.store, ours.name = self._checkpointer, self._store, graph_id
        return ours


def _warn_of_ignored(graph_id: str, graph: Graph) -> None:
    if isinstance(graph.checkpointer, BaseCheckpointSaver):
        log.warning("graph_checkpointer_ignored", graph_id=graph_id, remedy="compile the graph without one")
    if graph.store is not None:
        log.warning("graph_store_ignored", graph_id=graph_id, remedy="compile the graph without one")


def _not_a_graph(graph_id: str, found: object, what: str) -> str:
    return (
        f"graph '{graph_id}': {what} {type(found).__name__}, not a graph; "
        "name a compiled graph, a StateGraph or a function that returns one"
    )
