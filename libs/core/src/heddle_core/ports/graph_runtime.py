"""Graphs are guests: this is all the core knows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from heddle_core.domain.ids import ThreadId
from heddle_core.domain.json import Encoded, Json, JsonObject
from heddle_core.domain.thread import StateSummary
from heddle_core.ports.event_log import EventWriter
from heddle_core.ports.run_queue import Claim


class Access(StrEnum):
    """What a factory is asked to build its graph for (server-api 7.11)."""

    CREATE_RUN = "threads.create_run"
    UPDATE = "threads.update"
    READ = "threads.read"
    ASSISTANT = "assistants.read"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadGraph:
    """A graph as one thread sees it: which graph, and the configuration its factory is given."""

    graph_id: str
    thread_id: ThreadId
    config: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class StateUpdate:
    """One update of a thread's state. `values` None with `as_node` `__copy__` forks, with `__end__` clears."""

    values: Json = None
    as_node: str | None = None
    command: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """A state update that is not written yet: `ledger` holds its rows, for `Threads.save_state`."""

    checkpoint: JsonObject
    ledger: object
    state: StateSummary
    snapshot: Encoded


class GraphRunner(Protocol):
    """Executes claimed runs."""

    async def run(self, claim: Claim, log: EventWriter) -> Encoded:
        """Run the graph to its end and return what `wait` answers (output, with `__interrupt__` when it paused).

        Raises `GraphFailed` for anything the graph raised. Cancelled at most once, from outside.
        """
        ...

    async def summarize(self, claim: Claim) -> StateSummary:
        """The thread's state after `run`, however it ended; read from what the claim has buffered."""
        ...


class GraphStates(Protocol):
    """Reads and changes the state of threads that are not running."""

    async def get(self, graph: ThreadGraph, checkpoint: JsonObject | None, *, subgraphs: bool) -> Encoded:
        """A ThreadState (server-api 2.4) as JSON. `checkpoint` None or without an id: the latest."""
        ...

    async def output(self, graph: ThreadGraph, checkpoint_id: str) -> Encoded:
        """What `wait` answered for a run that ended at this root checkpoint."""
        ...

    async def history(
        self,
        graph: ThreadGraph,
        *,
        limit: int,
        before: JsonObject | None,
        metadata: JsonObject | None,
        checkpoint: JsonObject | None,
    ) -> Encoded:
        """A list of ThreadStates, newest first, as JSON."""
        ...

    async def update(
        self, graph: ThreadGraph, checkpoint: JsonObject | None, updates: Sequence[Sequence[StateUpdate]]
    ) -> Updated:
        """Apply supersteps of updates and buffer the rows. Raises `BadRequest` for what the graph refuses."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInfo:
    graph_id: str
    description: str | None


class GraphCatalog(Protocol):
    """What graphs there are and what they look like."""

    @property
    def graphs(self) -> Mapping[str, GraphInfo]: ...

    async def drawing(self, graph_id: str, config: JsonObject, xray: bool | int) -> Encoded:
        """`{nodes, edges}` (server-api 3.2)."""
        ...

    async def schemas(self, graph_id: str, config: JsonObject) -> Encoded: ...

    async def subgraphs(
        self, graph_id: str, config: JsonObject, namespace: str | None, *, recurse: bool
    ) -> Encoded: ...

    async def node_names(self, graph_id: str, config: JsonObject) -> frozenset[str] | None:
        """The names a `goto` may use; None when they cannot be known."""
        ...
