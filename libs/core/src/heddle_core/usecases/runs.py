"""Start, find, watch, cancel and delete runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from heddle_core.domain.assistant import Assistant
from heddle_core.domain.errors import Conflict, InvalidRequest, NotFound
from heddle_core.domain.events import BEGINNING, EventId
from heddle_core.domain.ids import RunId, ThreadId, new_run_id, new_thread_id
from heddle_core.domain.json import Json, JsonObject, encode
from heddle_core.domain.multitask import decide
from heddle_core.domain.run import CancelAction, IfNotExists, NewRun, Run, RunKwargs, RunStatus
from heddle_core.domain.thread import Page
from heddle_core.ports.run_queue import Claim, NotOpened
from heddle_core.ports.signals import Signal, SignalKind
from heddle_core.ports.storage import UnitOfWork
from heddle_core.usecases.context import Ports
from heddle_core.usecases.merging import merge_config, merge_metadata
from heddle_core.usecases.run_commands import Attached, StartRun
from heddle_core.usecases.run_watch import Following


async def start(ports: Ports, command: StartRun) -> Run:
    """Start a run and return at once."""
    return await _start(ports, await _prepare(ports, command, new_run_id()))


async def start_attached(ports: Ports, command: StartRun, *, only_end: bool = False) -> Attached:
    """Start a run with a reader that misses nothing; `only_end` for a reader that waits for the answer."""
    run_id = new_run_id()
    reader = ports.log.read(run_id, BEGINNING, only_end=only_end)
    try:
        run = await _start(ports, await _prepare(ports, command, run_id, watched=True))
    except BaseException:
        reader.close()
        raise
    return Attached(run=run, batches=Following(ports, run, reader, only_end=only_end))


async def start_many(ports: Ports, commands: Sequence[StartRun]) -> list[Run]:
    """All of them are looked at before the first is started: a mistake in one starts none."""
    prepared = [await _prepare(ports, command, new_run_id()) for command in commands]
    return [await _start(ports, one) for one in prepared]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A command that was looked at, with the assistant it was looked at with."""

    command: StartRun
    assistant: Assistant
    run_id: RunId
    watched: bool


async def _prepare(ports: Ports, command: StartRun, run_id: RunId, *, watched: bool = False) -> _Prepared:
    """Raises for what is wrong with the command itself; nothing is written."""
    assistant = await ports.assistants.get(command.assistant)
    await _check_goto(ports, assistant, command.command)
    prepared = _Prepared(command=command, assistant=assistant, run_id=run_id, watched=watched)
    _new_run(prepared)
    return prepared


async def _start(ports: Ports, prepared: _Prepared) -> Run:
    for _ in range(3):
        run = await _try_start(ports, _new_run(prepared))
        if isinstance(run, Run):
            return run
        fresh = await ports.assistants.reload(prepared.assistant.assistant_id)
        prepared = replace(prepared, assistant=fresh)
    raise Conflict("The assistant is being changed; try again.")


def _new_run(prepared: _Prepared) -> NewRun:
    command, assistant = prepared.command, prepared.assistant
    config, context = merge_config(assistant, command.config, command.context, command.extra_configurable)
    stateless = command.thread_id is None
    return NewRun(
        run_id=prepared.run_id,
        thread_id=command.thread_id or new_thread_id(),
        assistant_id=assistant.assistant_id,
        assistant_version=assistant.version,
        graph_id=assistant.graph_id,
        metadata=encode(merge_metadata(assistant, command.metadata)),
        kwargs=RunKwargs(
            input=command.input,
            command=command.command,
            checkpoint=command.checkpoint,
            config=config,
            context=context,
            stream_modes=command.stream_modes,
            subgraphs=command.subgraphs,
            resumable=command.resumable,
            interrupt_before=command.interrupt_before,
            interrupt_after=command.interrupt_after,
            durability=command.durability,
            temporary=stateless and not command.keep_thread,
            feedback_keys=command.feedback_keys,
        ),
        multitask_strategy=command.multitask_strategy,
        if_not_exists=IfNotExists.CREATE if stateless else command.if_not_exists,
        delay_seconds=command.delay_seconds,
        ephemeral=stateless and not command.keep_thread,
        watched=prepared.watched,
    )


async def _try_start(ports: Ports, new: NewRun) -> Run | None:
    """The run, or None when the assistant was changed since it was read."""
    reason = NotOpened.BUSY
    if new.delay_seconds <= 0 and ports.local.reserve():
        opened: Claim | NotOpened | None = None
        before = ports.clock.monotonic()
        try:
            opened = await ports.queue.open(new, lease=ports.limits.lease)
        finally:
            if not isinstance(opened, Claim):
                ports.local.release()
        if isinstance(opened, Claim):
            ports.local.start(opened, since=before)
            return opened.run
        reason = opened
    match reason:
        case NotOpened.NO_THREAD | NotOpened.NO_ASSISTANT:
            raise NotFound("Thread or assistant not found.")
        case NotOpened.STALE_ASSISTANT:
            return None
        case NotOpened.BUSY:
            return await _enqueue(ports, new)


async def _enqueue(ports: Ports, new: NewRun) -> Run | None:
    """The ordinary way in: lock the thread, see what is in flight, decide, write a pending run."""
    async with ports.storage.begin() as uow:
        assistant = await uow.assistants.get(new.assistant_id)
        if assistant is None:
            raise NotFound("Thread or assistant not found.")
        if assistant.version != new.assistant_version:
            return None
        thread = await uow.threads.lock(new.thread_id)
        if thread is None:
            if new.if_not_exists is IfNotExists.REJECT:
                raise NotFound("Thread or assistant not found.")
            await uow.threads.insert(new.thread_id, encode({}), ephemeral=new.ephemeral)
            await uow.threads.lock(new.thread_id)
        inflight = await uow.runs.inflight(new.thread_id)
        decision = decide(new.multitask_strategy, inflight)
        if decision.refusal is not None:
            raise decision.refusal
        run = await uow.runs.insert(new)
        running = await uow.runs.cancel(decision.cancel, decision.action)
        await _tell_owners(ports, uow, running, decision.action)
        if not inflight and new.delay_seconds <= 0:  # it could start now, but there is no room here
            await uow.ring(Signal(SignalKind.RUN_READY))
    _stop_here(ports, running, decision.action)
    _tell_readers(ports, decision.cancel, running)
    ports.local.wake()
    return run


async def _check_goto(ports: Ports, assistant: Assistant, command: JsonObject | None) -> None:
    """A jump to a node that does not exist would run nothing and say nothing: refuse it."""
    goto = (command or {}).get("goto")
    if not goto:
        return
    known = await ports.catalog.node_names(assistant.graph_id, assistant.config)
    if known is None:
        return
    for target in goto if isinstance(goto, list) else [goto]:
        name = _target_name(target)
        if name not in known and name != "__end__":
            raise InvalidRequest(f"unknown node {name!r}; this graph has {sorted(known)}", field="body.command.goto")


def _target_name(target: Json) -> str:
    name = target.get("node") if isinstance(target, dict) else target
    if not isinstance(name, str):
        raise InvalidRequest("must be a node name or {node, input}", field="body.command.goto")
    return name


async def get(ports: Ports, thread_id: ThreadId, run_id: RunId) -> Run:
    async with ports.storage.begin() as uow:
        run = await uow.runs.get(thread_id, run_id)
    if run is None:
        raise NotFound.run(run_id)
    return run


async def find(ports: Ports, run_id: RunId) -> Run:
    async with ports.storage.begin() as uow:
        run = await uow.runs.find(run_id)
    if run is None:
        raise NotFound.run(run_id)
    return run


async def list_runs(ports: Ports, thread_id: ThreadId, page: Page, status: RunStatus | None) -> Sequence[Run]:
    async with ports.storage.begin() as uow:
        if await uow.threads.get(thread_id, select=frozenset()) is None:
            raise NotFound.thread(thread_id)
        return await uow.runs.list(thread_id, page, status)


async def watch(
    ports: Ports, thread_id: ThreadId | None, run_id: RunId, after: EventId | None, *, only_end: bool = False
) -> Attached:
    """Read a run's events: after an event, from the beginning (`BEGINNING`), or live (None)."""
    if thread_id is not None:
        run = await get(ports, thread_id, run_id)
    else:
        run = ports.local.recall(run_id) or await find(ports, run_id)
    reader = ports.log.read(run_id, after, only_end=only_end)
    return Attached(run=run, batches=Following(ports, run, reader, only_end=only_end))


async def join(ports: Ports, thread_id: ThreadId, run_id: RunId) -> Attached:
    """Wait for a run to end; its only event is the `End`."""
    return await watch(ports, thread_id, run_id, None, only_end=True)


async def cancel(ports: Ports, thread_id: ThreadId, run_id: RunId, action: CancelAction, *, wait: bool) -> None:
    """Stop a run in flight. Raises `NotFound` when there is none, or when it is over already."""
    async with ports.storage.begin() as uow:
        if await uow.threads.lock(thread_id) is None:
            raise NotFound.run(run_id)
        run = await uow.runs.get(thread_id, run_id)
        if run is None or run.status.is_terminal:
            raise NotFound.run(run_id)
        running = await uow.runs.cancel([run], action)
        await _tell_owners(ports, uow, running, action)
    _stop_here(ports, running, action)
    _tell_readers(ports, [run], running)
    if wait and running:
        reader = ports.log.read(run_id, None, only_end=True)
        async for _ in Following(ports, run, reader, only_end=True):
            pass


async def cancel_many(
    ports: Ports,
    thread_id: ThreadId | None,
    run_ids: Sequence[RunId] | None,
    status: RunStatus | None,
    action: CancelAction,
) -> None:
    """Cancel the named runs of a thread, or every run in flight (`status` None: pending and running)."""
    async with ports.storage.begin() as uow:
        if run_ids is None:
            wanted = list(await uow.runs.inflight_anywhere(status))
        else:
            found = [await uow.runs.find(run_id) for run_id in run_ids]
            wanted = [r for r in found if r and thread_id in (None, r.thread_id) and not r.status.is_terminal]
    if not wanted:
        raise NotFound("No runs found to cancel.")
    for run in wanted:
        with suppress(NotFound):  # it ended meanwhile
            await cancel(ports, run.thread_id, run.run_id, action, wait=False)


async def delete(ports: Ports, thread_id: ThreadId, run_id: RunId) -> None:
    """Remove a run; its checkpoints stay. One in flight is cancelled first."""
    run = await get(ports, thread_id, run_id)
    if not run.status.is_terminal:
        with suppress(NotFound):  # it ended meanwhile
            await cancel(ports, thread_id, run_id, CancelAction.INTERRUPT, wait=True)
    async with ports.storage.begin() as uow:
        await uow.threads.lock(thread_id)
        again = await uow.runs.get(thread_id, run_id)
        if again is None:
            raise NotFound("Run not found")
        if not again.status.is_terminal:
            raise Conflict(f"Run {run_id} could not be stopped; try again.")
        await uow.runs.delete(again)


async def _tell_owners(ports: Ports, uow: UnitOfWork, running: Sequence[RunId], action: CancelAction) -> None:
    """Ring for runs that other processes execute; our own are stopped after the commit."""
    for run_id in running:
        if not ports.local.has(run_id):
            await uow.ring(Signal(SignalKind.CANCEL, run_id))


def _stop_here(ports: Ports, running: Sequence[RunId], action: CancelAction) -> None:
    for run_id in running:
        ports.local.cancel(run_id, action)


def _tell_readers(ports: Ports, cancelled: Sequence[Run], running: Sequence[RunId]) -> None:
    """Readers of runs that ended while pending have no log to hear it from."""
    for run in cancelled:
        if run.run_id not in running:
            ports.log.poke(run.run_id)
