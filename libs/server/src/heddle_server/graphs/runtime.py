"""Runs claimed graphs: the one place where guest code is executed on behalf of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.errors import ParentCommand
from langgraph.types import Command

from heddle_core.domain.errors import GraphFailed, GraphLoadError, HeddleError
from heddle_core.domain.events import StreamMode
from heddle_core.domain.json import Encoded
from heddle_core.domain.thread import StateSummary
from heddle_core.ports.event_log import EventWriter
from heddle_core.ports.graph_runtime import Access
from heddle_core.ports.run_queue import Claim
from heddle_server.graphs.answers import answer, is_whole_state
from heddle_server.graphs.encoding import encode, text_of
from heddle_server.graphs.guests import Guest, GuestExit, hosting
from heddle_server.graphs.isolated_loop import IsolatedLoop
from heddle_server.graphs.loader import Graph, GraphLoader
from heddle_server.graphs.run_call import (
    CLAIM_KEY,
    ServerFacts,
    ends_the_thread,
    pauses,
    run_config,
    run_context,
    run_input,
    to_command,
)
from heddle_server.graphs.snapshots import summary
from heddle_server.graphs.stream_events import EventStream, graph_modes

log = structlog.get_logger(__name__)

Room: TypeAlias = Callable[[], Awaitable[None]]


class GraphRuntime:
    """`GraphRunner` for LangGraph. With `isolated`, graphs run on a loop of their own.

    `room` is awaited after each superstep: it waits while checkpoints are made faster than the database takes them.
    """

    def __init__(
        self,
        loader: GraphLoader,
        *,
        facts: ServerFacts | None = None,
        isolated: IsolatedLoop | None = None,
        room: Room | None = None,
    ) -> None:
        self._loader = loader
        self._room = room
        self._server = (facts or ServerFacts()).as_metadata()
        self._isolated = isolated
        # The state of runs that came to their end, for `summarize`: reading it back would decode every message of
        # the thread. It goes with the claim that it belongs to.
        self._ended: WeakKeyDictionary[object, Encoded] = WeakKeyDictionary()

    async def run(self, claim: Claim, log: EventWriter) -> Encoded:
        if self._isolated is None:
            return await self._run(claim, log)
        return await self._isolated.run(lambda writer: self._run(claim, writer), log)

    async def summarize(self, claim: Claim) -> StateSummary:
        if (values := self._ended.pop(claim.ledger, None)) is not None:
            return StateSummary(values=values)  # the ledger knows the checkpoint's id
        config: RunnableConfig = {
            "configurable": {"thread_id": str(claim.thread_id), "checkpoint_ns": "", CLAIM_KEY: claim.ledger}
        }
        with hosting(_guest(claim)):
            if (static := self._loader.static(claim.graph_id)) is not None:
                return summary(await static.aget_state(config))
            wanted = run_config(claim, self._server)
            async with self._loader.get_graph(claim.graph_id, wanted, Access.READ) as graph:
                return summary(await graph.aget_state(config))

    async def _run(self, claim: Claim, log: EventWriter) -> Encoded:
        # For what the graph logs; the task is the run's own, so nothing else sees it.
        structlog.contextvars.bind_contextvars(run_id=str(claim.run_id), thread_id=str(claim.thread_id))
        guest = _guest(claim)  # a name that a watch of the loop looks for
        with hosting(guest):
            try:
                config = run_config(claim, self._server)
                if (static := self._loader.static(claim.graph_id)) is not None:
                    return await self._execute(static, claim, config, log)
                context = run_context(claim, None)
                async with self._loader.get_graph(claim.graph_id, config, Access.CREATE_RUN, context) as graph:
                    return await self._execute(graph, claim, config, log)
            except asyncio.CancelledError as problem:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # from outside
                raise _failure(claim, problem) from problem
            except GraphLoadError as problem:
                raise _failure(claim, problem) from problem
            except HeddleError:
                raise  # from the checkpointer: the lease is lost, the database is down
            except BaseException as problem:  # the guest: it may raise anything
                raise _failure(claim, problem) from problem

    async def _execute(self, graph: Graph, claim: Claim, config: RunnableConfig, log: EventWriter) -> Encoded:
        stream = EventStream(claim.kwargs.stream_modes, log)
        ended = await _drive(graph, claim, config, stream, self._room)
        if ended and not claim.run.ephemeral and is_whole_state(graph, claim, stream.values):
            stream.text = stream.text or encode(stream.values)
            self._ended[claim.ledger] = stream.text
        return answer(graph, stream.values, stream.text)


async def _drive(graph: Graph, claim: Claim, config: RunnableConfig, stream: EventStream, room: Room | None) -> bool:
    """Run the graph to its end; False when the thread was changed in another way than by its steps."""
    if ends_the_thread(claim):
        await _end_thread(graph, claim, config, stream)
        return False
    try:
        if StreamMode.EVENTS in claim.kwargs.stream_modes:
            await _stream_records(graph, claim, config, stream)
        else:
            await _stream_chunks(graph, claim, config, stream, room)
    except ParentCommand as command:
        stream.parent_command(command.args[0])
        return False
    return True


async def _stream_chunks(
    graph: Graph, claim: Claim, config: RunnableConfig, stream: EventStream, room: Room | None
) -> None:
    chunks: Any = graph.astream(run_input(claim), config, **_options(graph, claim))
    async with aclosing(chunks):
        if claim.kwargs.subgraphs:
            async for namespace, mode, payload in chunks:
                stream.chunk(namespace, mode, payload)
                if room is not None and mode == "values":
                    await room()
        else:
            async for mode, payload in chunks:
                stream.chunk((), mode, payload)
                if room is not None and mode == "values":
                    await room()


async def _stream_records(graph: Graph, claim: Claim, config: RunnableConfig, stream: EventStream) -> None:
    """Mode `events`: the other modes' chunks are inside the records of the root run."""
    root = str(claim.run_id)
    records: Any = graph.astream_events(run_input(claim), config, version="v2", **_options(graph, claim))
    async with aclosing(records):
        async for record in records:
            if record["event"] == "on_chain_stream" and record["run_id"] == root:
                # What this record carries are the other modes' events, and internal values with them.
                chunk = record["data"]["chunk"]
                stream.chunk(*(chunk if claim.kwargs.subgraphs else ((), *chunk)))
            else:
                stream.record(record)


def _options(graph: Graph, claim: Claim) -> dict[str, Any]:
    kwargs = claim.kwargs
    return {
        "stream_mode": graph_modes(kwargs.stream_modes),
        "subgraphs": kwargs.subgraphs,
        "durability": kwargs.durability.value,
        "context": run_context(claim, graph.context_schema),
        "interrupt_before": pauses(kwargs.interrupt_before),
        "interrupt_after": pauses(kwargs.interrupt_after),
    }


async def _end_thread(graph: Graph, claim: Claim, config: RunnableConfig, stream: EventStream) -> None:
    """Drop what the thread waits for, without running its nodes again."""
    before = await graph.aget_state(config)
    if before.metadata is None:
        return
    command = to_command(claim.kwargs.command)
    if command is not None and command.update:
        # As if the node that waits had answered with this update.
        node = before.next[0] if before.next else None
        config = _at(config, await graph.aupdate_state(config, Command(update=command.update), as_node=node))
    config = _at(config, await graph.aupdate_state(config, None, as_node="__end__"))
    after = await graph.aget_state(config)
    stream.chunk((), "values", after.values)


def _at(config: RunnableConfig, written: RunnableConfig) -> RunnableConfig:
    """The run's config at the checkpoint that an update wrote: LangGraph's answer names a place and no more."""
    return {**config, "configurable": {**config["configurable"], **written["configurable"]}}


def _failure(claim: Claim, problem: BaseException) -> GraphFailed:
    cause = problem.attempt if isinstance(problem, GuestExit) else problem
    log.warning("graph_failed", run_id=str(claim.run_id), graph_id=claim.graph_id, exc_info=problem)
    return GraphFailed(type(cause).__name__, _text(cause))


def _text(problem: BaseException) -> str:
    if isinstance(problem, SystemExit):
        return f"the graph tried to end the process (exit code {problem.code})"
    text = text_of(problem)
    if isinstance(problem, TypeError) and "serializable" in text:
        return f"the graph's state cannot be stored: {text}; let nodes return plain data, messages or dataclasses"
    return text


def _guest(claim: Claim) -> Guest:
    return Guest(run_id=str(claim.run_id), graph_id=claim.graph_id)
