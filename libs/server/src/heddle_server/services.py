"""Builds the server's parts and starts them in order. The only place, with `main`, that names concrete classes."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from heddle_core.domain.errors import HeddleError
from heddle_core.engine.worker import Worker
from heddle_core.memory.event_log import MemoryEventLog
from heddle_core.usecases.assistant_cache import AssistantCache
from heddle_core.usecases.assistants import ensure_system_assistants
from heddle_core.usecases.context import Limits, Ports
from heddle_server.config import ConfigError, ProjectConfig
from heddle_server.dsn import Dsn
from heddle_server.graphs.catalog import Catalog
from heddle_server.graphs.guests import leave_loop, prepare_loop
from heddle_server.graphs.isolated_loop import IsolatedLoop
from heddle_server.graphs.loader import GraphLoader
from heddle_server.graphs.loop_watch import LoopWatch
from heddle_server.graphs.runtime import GraphRuntime
from heddle_server.graphs.sources import GraphSpec
from heddle_server.graphs.states import ThreadStates
from heddle_server.http.options import Figures, Health, Readiness
from heddle_server.settings import Settings
from heddle_server.signals.postgres import PostgresSignals
from heddle_server.storage import migrate
from heddle_server.storage.checkpoints import PostgresSaver
from heddle_server.storage.database import open_database
from heddle_server.storage.flusher import Flusher
from heddle_server.storage.graph_store import GraphStore
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.run_queue import PostgresRunQueue
from heddle_server.storage.unit_of_work import PostgresStorage

_LEAST_FREE_BYTES = 64 * 1024 * 1024


class LoopClock:
    """The event loop's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What runs behind the API."""

    ports: Ports
    worker: Worker
    storage: PostgresStorage
    data_dir: Path

    async def readiness(self) -> Readiness:
        problems: dict[str, str] = {}
        try:
            await self.storage.check()
        except HeddleError as problem:
            problems["database"] = problem.message
        try:
            free = shutil.disk_usage(self.data_dir).free
            if free < _LEAST_FREE_BYTES:
                problems["disk"] = f"{free // 2**20} MiB free in {self.data_dir}"
        except OSError as problem:
            problems["disk"] = f"{self.data_dir}: {problem.strerror}"
        if problems:
            return Readiness(health=Health.DOWN, problems=problems)
        if self.worker.is_draining:
            return Readiness(health=Health.DRAINING, problems={"worker": "stopping"})
        return Readiness(health=Health.UP)

    async def figures(self) -> Figures:
        async with self.storage.single() as unit:
            queue = await unit.runs.figures()
        return Figures(
            pending_runs=queue.pending,
            running_runs=queue.running,
            longest_wait_seconds=queue.longest_wait.total_seconds(),
            slots=self.worker.slots,
            slots_taken=self.worker.active,
        )


def limits_of(settings: Settings) -> Limits:
    return Limits(
        lease=timedelta(seconds=settings.lease_seconds),
        max_attempts=settings.run_attempts,
        run_timeout=timedelta(seconds=settings.run_timeout_seconds),
        keep_events=timedelta(seconds=settings.resumable_stream_ttl_seconds),
        poll=timedelta(seconds=settings.poll_seconds),
        grace=timedelta(seconds=settings.shutdown_grace_seconds),
    )


def graph_specs(config: ProjectConfig) -> Sequence[GraphSpec]:
    return [
        GraphSpec(graph_id=entry.graph_id, path=entry.source, description=entry.description)
        for entry in config.graphs.values()
    ]


@asynccontextmanager
async def running(settings: Settings, config: ProjectConfig) -> AsyncIterator[Services]:
    """Migrate, connect, load the graphs, start the worker; all of it stops when the block is left.

    Raises a `HeddleError` or `StartError` that says what is wrong and, where that is known, what to do about it.
    """
    dsn = _database(settings)
    limits = limits_of(settings)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    await migrate.upgrade(dsn, config.guest_migrations)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(dsn, budget=settings.pool_max_size, statement_cache=settings.statement_cache)
        )
        storage = PostgresStorage(database.engine)
        workers: list[Worker] = []
        flusher = await stack.enter_async_context(
            Flusher(database.pool, on_lost=lambda run_id: workers[0].lose(run_id) if workers else None)
        )
        store = await stack.enter_async_context(GraphStore(database.pool))
        loop = asyncio.get_running_loop()
        stack.callback(leave_loop, loop, prepare_loop(loop, slots=settings.jobs_per_worker))
        await stack.enter_async_context(LoopWatch())
        isolated = None
        if settings.isolated_loops:
            isolated = await stack.enter_async_context(IsolatedLoop(slots=settings.jobs_per_worker))
        loader = GraphLoader(
            graph_specs(config),
            config.root,
            dependencies=[str(path) for path in config.import_paths],
            checkpointer=PostgresSaver(database.pool, flusher),
            store=store,
        )
        loader.load_all()
        catalog = Catalog(loader)
        queue = PostgresRunQueue(database.pool)
        stack.push_async_callback(queue.aclose)
        signals = await stack.enter_async_context(PostgresSignals(dsn.asyncpg_kwargs()))
        log, clock = MemoryEventLog(), LoopClock()
        worker = Worker(
            queue=queue,
            runner=GraphRuntime(loader, isolated=isolated),
            log=log,
            signals=signals,
            clock=clock,
            limits=limits,
            slots=settings.jobs_per_worker,
        )
        workers.append(worker)
        ports = Ports(
            storage=storage,
            assistants=AssistantCache(storage, catalog),
            queue=queue,
            log=log,
            signals=signals,
            states=ThreadStates(loader, Ledger.detached),
            catalog=catalog,
            local=worker,
            clock=clock,
            limits=limits,
        )
        await ensure_system_assistants(ports)
        await stack.enter_async_context(worker.running())
        yield Services(ports=ports, worker=worker, storage=storage, data_dir=settings.data_dir)


def _database(settings: Settings) -> Dsn:
    if settings.database is None:
        raise ConfigError(
            "no database: DATABASE_URL is not set",
            fix="start with `heddle dev` or `heddle serve`, which bring one, or set DATABASE_URL",
        )
    return settings.database
