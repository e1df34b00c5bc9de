"""What every use case is given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from heddle_core.ports.clock import Clock
from heddle_core.ports.event_log import EventLog
from heddle_core.ports.graph_runtime import GraphCatalog, GraphStates
from heddle_core.ports.local_runs import LocalRuns
from heddle_core.ports.run_queue import RunQueue
from heddle_core.ports.signals import Signals
from heddle_core.ports.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The figures that use cases and the engine go by."""

    lease: timedelta = timedelta(seconds=30)
    max_attempts: int = 3
    run_timeout: timedelta = timedelta(days=1)
    keep_events: timedelta = timedelta(seconds=120)
    poll: timedelta = timedelta(seconds=1)
    grace: timedelta = timedelta(seconds=180)
    state_update: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The world, as use cases see it. Built once, in `heddle_server.main`."""

    storage: Storage
    queue: RunQueue
    log: EventLog
    signals: Signals
    states: GraphStates
    catalog: GraphCatalog
    local: LocalRuns
    clock: Clock
    limits: Limits
