"""A claim, a log and the graphs of `samples`, without a database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

from heddle_core.domain.events import Event, StreamMode
from heddle_core.domain.ids import AssistantId, ThreadId, new_run_id, new_thread_id, uuid7
from heddle_core.domain.json import EMPTY_OBJECT, Encoded, JsonObject
from heddle_core.domain.run import MultitaskStrategy, Run, RunKwargs, RunStatus
from heddle_core.ports.graph_runtime import ThreadGraph
from heddle_core.ports.run_queue import Claim
from heddle_server.graphs.catalog import Catalog
from heddle_server.graphs.isolated_loop import IsolatedLoop
from heddle_server.graphs.loader import GraphLoader
from heddle_server.graphs.runtime import GraphRuntime
from heddle_server.graphs.sources import GraphSpec
from heddle_server.graphs.states import ThreadStates
from tests.support.graphs import samples

ROOT = Path(__file__).parents[3]
SAMPLES = "tests/support/graphs/samples.py"
ASSISTANT = AssistantId(UUID("5e0f6b46-d00f-5af4-87dc-ea2105ff526d"))


@dataclass
class ListLog:
    """An EventWriter that remembers; `when` is called after each append."""

    is_watched: bool = True
    events: list[Event] = field(default_factory=list)
    when: Callable[[Event], None] | None = None

    def append(self, events: Sequence[Event]) -> None:
        self.events.extend(events)
        for event in events:
            if self.when is not None:
                self.when(event)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    @property
    def data(self) -> list[tuple[str, Any]]:
        return [(event.name, orjson.loads(event.data)) for event in self.events]

    def of(self, name: str) -> list[Any]:
        return [orjson.loads(event.data) for event in self.events if event.name == name]


class GraphWorld:
    """The sample graphs behind the three ports, on an in-memory checkpointer."""

    def __init__(self, *, isolated: IsolatedLoop | None = None) -> None:
        names = [name for name in vars(samples) if not name.startswith("_")]
        specs = [GraphSpec(graph_id=name, path=f"{SAMPLES}:{name}") for name in names]
        self.saver = InMemorySaver()
        self.store = InMemoryStore()
        self.loader = GraphLoader(specs, ROOT, checkpointer=self.saver, store=self.store)
        self.runtime = GraphRuntime(self.loader, isolated=isolated)
        self.states = ThreadStates(self.loader, lambda _: object())
        self.catalog = Catalog(self.loader)

    async def run(self, claim: Claim, log: ListLog | None = None) -> Any:
        return orjson.loads(await self.runtime.run(claim, log or ListLog()))

    async def state(self, graph_id: str, thread_id: ThreadId, **options: Any) -> Any:
        wanted = {"checkpoint": None, "subgraphs": False, **options}
        return orjson.loads(await self.states.get(a_thread(graph_id, thread_id), **wanted))

    async def history(self, graph_id: str, thread_id: ThreadId, **options: Any) -> Any:
        wanted = {"limit": 100, "before": None, "metadata": None, "checkpoint": None, **options}
        return orjson.loads(await self.states.history(a_thread(graph_id, thread_id), **wanted))


def a_thread(graph_id: str, thread_id: ThreadId, **config: Any) -> ThreadGraph:
    return ThreadGraph(graph_id=graph_id, thread_id=thread_id, config=config)


def a_claim(
    graph_id: str,
    given: Any = None,
    *modes: str,
    thread_id: ThreadId | None = None,
    metadata: JsonObject | None = None,
    already_started: bool = False,
    thread_config: Encoded = EMPTY_OBJECT,
    **kwargs: Any,
) -> Claim:
    """A claimed run. `modes` are stream modes; keywords are fields of RunKwargs."""
    now = datetime.now(UTC)
    fields: dict[str, Any] = {"config": {}, **kwargs}
    if modes:
        fields["stream_modes"] = tuple(StreamMode(mode) for mode in modes)
    run = Run(
        run_id=new_run_id(),
        thread_id=thread_id or new_thread_id(),
        assistant_id=ASSISTANT,
        created_at=now,
        updated_at=now,
        status=RunStatus.RUNNING,
        metadata=Encoded(orjson.dumps(metadata or {})),
        kwargs=EMPTY_OBJECT,
        multitask_strategy=MultitaskStrategy.ENQUEUE,
        attempt=1,
    )
    return Claim(
        run=run,
        kwargs=RunKwargs(input=given, **fields),
        assistant_id=ASSISTANT,
        graph_id=graph_id,
        attempt=1,
        token=uuid7(),
        thread_metadata=EMPTY_OBJECT,
        thread_config=thread_config,
        already_started=already_started,
        ledger=object(),
    )


def again(claim: Claim, **changes: Any) -> Claim:
    """The same run claimed once more."""
    return replace(claim, attempt=claim.attempt + 1, **changes)
