"""The HTTP floor over real sockets, on the core's own event log and small stand-ins for the ports around it.

Runs do what the test says: it finds a started run by its input and speaks for its graph.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar, cast
from uuid import UUID, uuid4

import httpx
import uvicorn

from heddle_core.domain.assistant import Assistant
from heddle_core.domain.errors import InvalidRequest, NotFound
from heddle_core.domain.events import Event, StreamMode
from heddle_core.domain.ids import AssistantId, RunId, ThreadId, new_thread_id, system_assistant_id
from heddle_core.domain.json import EMPTY_OBJECT, Encoded, JsonObject
from heddle_core.domain.run import CancelAction, IfNotExists, NewRun, Run, RunKwargs, RunStatus
from heddle_core.domain.thread import Page
from heddle_core.memory.event_log import Bounds, MemoryEventLog
from heddle_core.ports.event_log import EventWriter
from heddle_core.ports.graph_runtime import GraphInfo
from heddle_core.ports.run_queue import Claim, NotOpened
from heddle_core.ports.signals import Signal
from heddle_core.usecases.context import Limits, Ports
from heddle_server.http.app import build_api
from heddle_server.http.options import HttpOptions
from heddle_server.services import LoopClock

ASSISTANT = system_assistant_id("agent")
LIMITS = Limits(poll=timedelta(seconds=0.05))


class Rows:
    """Threads and runs in dictionaries: the repositories, the unit of work and the queue in one."""

    def __init__(self) -> None:
        self.known: set[ThreadId] = set()
        self.rows: dict[RunId, Run] = {}
        self.kwargs: dict[RunId, RunKwargs] = {}
        self.new: dict[RunId, NewRun] = {}
        self.failure: Exception | None = None
        self.cancels: asyncio.Queue[tuple[RunId, CancelAction]] = asyncio.Queue()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        await self.check()
        assistants = SimpleNamespace(get=self._assistant)
        yield SimpleNamespace(threads=_ThreadRows(self), runs=_RunRows(self), assistants=assistants, ring=self._ring)

    async def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _ring(self, signal: Signal) -> None: ...

    async def _assistant(self, assistant_id: AssistantId) -> Assistant:
        return AN_ASSISTANT

    async def open(self, new: NewRun, *, lease: timedelta) -> Claim | NotOpened:
        await self.check()
        if new.thread_id not in self.known:
            if new.if_not_exists is IfNotExists.REJECT:
                return NotOpened.NO_THREAD
            self.known.add(new.thread_id)
        if any(r.thread_id == new.thread_id and not r.status.is_terminal for r in self.rows.values()):
            return NotOpened.BUSY
        run = self.insert(new, RunStatus.RUNNING)
        return Claim(
            run=run,
            kwargs=new.kwargs,
            assistant_id=run.assistant_id,
            graph_id="agent",
            attempt=1,
            token=uuid4(),
            thread_metadata=EMPTY_OBJECT,
            thread_config=EMPTY_OBJECT,
            already_started=False,
            ledger=None,
        )

    def insert(self, new: NewRun, status: RunStatus) -> Run:
        now = datetime.now(UTC)
        run = Run(
            run_id=new.run_id,
            thread_id=new.thread_id,
            assistant_id=new.assistant_id,
            graph_id=new.graph_id,
            created_at=now,
            updated_at=now,
            status=status,
            metadata=new.metadata,
            kwargs=Encoded(json.dumps({"input": new.kwargs.input, "temporary": new.kwargs.temporary}).encode()),
            multitask_strategy=new.multitask_strategy,
            attempt=1,
            resumable=new.kwargs.resumable,
            ephemeral=new.ephemeral,
        )
        self.rows[run.run_id], self.kwargs[run.run_id], self.new[run.run_id] = run, new.kwargs, new
        return run

    def settle(self, run_id: RunId, status: RunStatus) -> None:
        self.rows[run_id] = replace(self.rows[run_id], status=status)


@dataclass
class _ThreadRows:
    all: Rows

    async def get(self, thread_id: ThreadId, *, select: frozenset[str] | None = None) -> Any:
        return SimpleNamespace(thread_id=thread_id) if thread_id in self.all.known else None

    lock = get

    async def insert(self, thread_id: ThreadId, metadata: Encoded, *, ephemeral: bool = False) -> Any:
        self.all.known.add(thread_id)
        return await self.get(thread_id)


@dataclass
class _RunRows:
    all: Rows

    async def insert(self, new: NewRun) -> Run:
        return self.all.insert(new, RunStatus.PENDING)

    async def get(self, thread_id: ThreadId, run_id: RunId) -> Run | None:
        run = self.all.rows.get(run_id)
        return run if run and run.thread_id == thread_id else None

    async def find(self, run_id: RunId) -> Run | None:
        return self.all.rows.get(run_id)

    watch = find

    async def list(self, thread_id: ThreadId, page: Page, status: RunStatus | None) -> Sequence[Run]:
        found = [r for r in self.all.rows.values() if r.thread_id == thread_id and status in (None, r.status)]
        return found[::-1][page.offset : page.offset + page.limit]

    async def inflight(self, thread_id: ThreadId) -> Sequence[Run]:
        return [r for r in self.all.rows.values() if r.thread_id == thread_id and not r.status.is_terminal]

    async def inflight_anywhere(self, status: RunStatus | None) -> Sequence[Run]:
        return [r for r in self.all.rows.values() if not r.status.is_terminal and status in (None, r.status)]

    async def cancel(self, runs: Sequence[Run], action: CancelAction) -> Sequence[RunId]:
        for run in runs:
            self.all.cancels.put_nowait((run.run_id, action))
            if run.status is RunStatus.PENDING:
                self.all.settle(run.run_id, RunStatus.INTERRUPTED)
        return [run.run_id for run in runs if run.status is RunStatus.RUNNING]

    async def delete(self, run: Run) -> None:
        del self.all.rows[run.run_id]


AN_ASSISTANT = Assistant(
    assistant_id=ASSISTANT,
    graph_id="agent",
    name="agent",
    description=None,
    config={},
    context={},
    metadata={"created_by": "system"},
    version=1,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    updated_at=datetime(2026, 1, 1, tzinfo=UTC),
)


class OneAssistant:
    async def get(self, ref: str) -> Assistant:
        if ref in ("agent", str(ASSISTANT)):
            return AN_ASSISTANT
        try:
            raise NotFound.assistant(UUID(ref))
        except ValueError:
            raise InvalidRequest(f"Invalid assistant: '{ref}'. Must be either: agent") from None

    async def reload(self, assistant_id: AssistantId) -> Assistant:
        return AN_ASSISTANT

    def invalidate(self, assistant_id: AssistantId) -> None:
        raise NotImplementedError


@dataclass
class Playing:
    """A run in the hands of the test."""

    claim: Claim
    writer: EventWriter
    world: World

    @property
    def run_id(self) -> RunId:
        return self.claim.run_id

    @property
    def thread_id(self) -> ThreadId:
        return self.claim.thread_id

    def say(self, name: str, data: Any, mode: StreamMode | None = None) -> None:
        self.writer.append([Event(name, Encoded(json.dumps(data, separators=(",", ":")).encode()), mode)])

    def end(self, result: Any, status: RunStatus = RunStatus.SUCCESS) -> None:
        self.world.rows.settle(self.run_id, status)
        self.world.log.end(self.run_id, 1, Encoded(json.dumps(result).encode()), keep=timedelta(seconds=60))


@dataclass
class Local:
    """Starts runs as the worker does, but the test is the graph."""

    world: World
    here: set[RunId] = field(default_factory=set)

    def reserve(self) -> bool:
        return True

    def release(self) -> None: ...

    def wake(self) -> None: ...

    def has(self, run_id: RunId) -> bool:
        return run_id in self.here

    def start(self, claim: Claim, *, since: float) -> None:
        writer = self.world.log.begin(claim.run_id, 1, retain=claim.kwargs.resumable)
        self.here.add(claim.run_id)
        run = Playing(claim, writer, self.world)
        run.say("metadata", {"run_id": str(claim.run_id), "attempt": 1})
        self.world.started.put_nowait(run)

    def recall(self, run_id: RunId) -> Run | None:
        return None

    def cancel(self, run_id: RunId, action: CancelAction) -> bool:
        if run_id not in self.here:
            return False
        self.world.rows.settle(run_id, RunStatus.INTERRUPTED)
        self.world.log.end(run_id, 1, Encoded(b'{"partial":1}'), keep=timedelta(seconds=60))
        return True


class OneGraph:
    graphs: ClassVar = {"agent": GraphInfo(graph_id="agent", description=None)}

    async def node_names(self, graph_id: str, config: JsonObject) -> frozenset[str] | None:
        return frozenset({"work"})


class World:
    """A server on a free port, its client, and what happens behind it."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.rows = Rows()
        self.log = MemoryEventLog(bounds)
        self.started: asyncio.Queue[Playing] = asyncio.Queue()
        unused = cast(Any, None)
        self.ports = Ports(
            storage=cast(Any, self.rows),
            assistants=OneAssistant(),
            queue=cast(Any, self.rows),
            log=self.log,
            signals=unused,
            states=unused,
            catalog=cast(Any, OneGraph()),
            local=Local(self),
            clock=LoopClock(),
            limits=LIMITS,
        )
        self.url = ""
        self.port = 0
        self.client: httpx.AsyncClient = unused

    def a_thread(self) -> ThreadId:
        thread_id = new_thread_id()
        self.rows.known.add(thread_id)
        return thread_id

    async def next_run(self) -> Playing:
        return await asyncio.wait_for(self.started.get(), 5)

    async def next_cancel(self) -> tuple[RunId, CancelAction]:
        return await asyncio.wait_for(self.rows.cancels.get(), 5)


@asynccontextmanager
async def serving(options: HttpOptions | None = None, *, bounds: Bounds | None = None) -> AsyncIterator[World]:
    world = World(bounds)
    api = build_api(world.ports, options or HttpOptions())
    listener = socket.create_server(("127.0.0.1", 0))
    world.port = listener.getsockname()[1]
    world.url = f"http://127.0.0.1:{world.port}"
    config = uvicorn.Config(api, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with httpx.AsyncClient(base_url=world.url, timeout=10) as client:
            world.client = client
            await until(lambda: server.started)
            yield world
    finally:
        server.should_exit = True
        await task


async def until(condition: Any, seconds: float = 5) -> None:
    """Wait until something observable holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass
class Frame:
    event: str = ""
    data: Any = None
    id: str | None = None


def frames(text: str) -> list[Frame]:
    """The events of an SSE body; comments are left out."""
    found = []
    for block in text.split("\r\n\r\n"):
        frame = Frame()
        for line in block.split("\r\n"):
            name, _, value = line.partition(": ")
            if name == "event":
                frame.event = value
            elif name == "data":
                frame.data = json.loads(value)
            elif name == "id":
                frame.id = value
        if frame.event:
            found.append(frame)
    return found
