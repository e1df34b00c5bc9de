"""What every use case is given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from heddle_core.domain.assistant import Assistant
from heddle_core.domain.ids import AssistantId
from heddle_core.ports.clock import Clock
from heddle_core.ports.event_log import EventLog
from heddle_core.ports.graph_runtime import GraphCatalog, GraphStates
from heddle_core.ports.local_runs import LocalRuns
from heddle_core.ports.run_queue import RunQueue
from heddle_core.ports.signals import Signals
from heddle_core.ports.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The figures that use cases and the engine go by.

    `stubborn`: how long a cancelled graph may take to end; then it is abandoned and the fence keeps it out.
    """

    lease: timedelta = timedelta(seconds=30)
    max_attempts: int = 3
    run_timeout: timedelta = timedelta(days=1)
    keep_events: timedelta = timedelta(seconds=120)
    poll: timedelta = timedelta(seconds=1)
    grace: timedelta = timedelta(seconds=180)
    stubborn: timedelta = timedelta(seconds=10)
    state_update: timedelta = timedelta(seconds=60)


class AssistantSource(Protocol):
    """Assistants as runs need them: read once, checked against the row when a run is opened."""

    async def get(self, ref: str) -> Assistant:
        """By id or graph id. Raises `InvalidRequest` for what is neither, `NotFound` for an unknown id."""
        ...

    async def reload(self, assistant_id: AssistantId) -> Assistant: ...

    def invalidate(self, assistant_id: AssistantId) -> None:
        """Forget an assistant that was changed or removed. Call it after the commit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The world, as use cases see it. Built once, in `heddle_server.main`."""

    storage: Storage
    assistants: AssistantSource
    queue: RunQueue
    log: EventLog
    signals: Signals
    states: GraphStates
    catalog: GraphCatalog
    local: LocalRuns
    clock: Clock
    limits: Limits
