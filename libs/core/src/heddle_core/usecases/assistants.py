"""What a caller can want of assistants."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from heddle_core.domain.assistant import (
    UNTITLED,
    Assistant,
    AssistantChange,
    AssistantContent,
    AssistantFilter,
    changed,
    mirrored,
)
from heddle_core.domain.errors import Conflict, InvalidRequest, NotFound
from heddle_core.domain.ids import AssistantId, system_assistant_id
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.domain.run import CancelAction
from heddle_core.domain.storable import check_json, check_text
from heddle_core.domain.thread import IfExists, Page
from heddle_core.usecases import runs, threads
from heddle_core.usecases.assistant_cache import resolve
from heddle_core.usecases.context import Ports


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateAssistant:
    """`assistant_id` None: a new one."""

    graph_id: str
    assistant_id: AssistantId | None = None
    name: str = UNTITLED
    description: str | None = None
    config: JsonObject | None = None
    context: JsonObject | None = None
    metadata: JsonObject | None = None
    if_exists: IfExists = IfExists.RAISE


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One page of a search and how many assistants there are in all."""

    assistants: Sequence[Assistant]
    total: int


async def ensure_system_assistants(ports: Ports) -> None:
    """Each graph has an assistant of its own. One that exists stays as it is, whatever was changed in it."""
    missing = {system_assistant_id(graph_id): graph for graph_id, graph in ports.catalog.graphs.items()}
    async with ports.storage.begin() as unit:
        for assistant_id in sorted(missing):  # one order, so that processes that start together do not deadlock
            graph = missing[assistant_id]
            content = AssistantContent(
                graph_id=graph.graph_id,
                name=graph.graph_id,
                description=graph.description,
                config={},
                context={},
                metadata={"created_by": "system"},
            )
            await unit.assistants.insert(assistant_id, content)


async def create(ports: Ports, wanted: CreateAssistant) -> Assistant:
    """Raises `Conflict` when the id is taken, unless the existing one is asked for."""
    assistant_id = wanted.assistant_id or AssistantId(uuid4())
    config, context = mirrored(wanted.config, wanted.context)
    content = AssistantContent(
        graph_id=wanted.graph_id,
        name=wanted.name,
        description=wanted.description,
        config=config,
        context=context,
        metadata=wanted.metadata or {},
    )
    _check_graph(ports, wanted.graph_id)
    _check(content)
    async with ports.storage.begin() as unit:
        made = await unit.assistants.insert(assistant_id, content)
        if made is None and wanted.if_exists is IfExists.DO_NOTHING:
            made = await unit.assistants.get(assistant_id)
    if made is None:
        raise Conflict(f"Assistant {assistant_id} already exists")
    return made


async def get(ports: Ports, assistant_id: AssistantId) -> Assistant:
    async with ports.storage.single() as unit:
        found = await unit.assistants.get(assistant_id)
    if found is None:
        raise NotFound.assistant(assistant_id)
    return found


async def search(ports: Ports, wanted: AssistantFilter, page: Page) -> Found:
    """One page, with the exact total."""
    _check_filter(wanted)
    async with ports.storage.single() as unit:
        page_of = await unit.assistants.search(wanted, page)
        total = await unit.assistants.count(wanted)
    return Found(assistants=page_of, total=total)


async def count(ports: Ports, wanted: AssistantFilter) -> int:
    _check_filter(wanted)
    async with ports.storage.single() as unit:
        return await unit.assistants.count(wanted)


async def change(ports: Ports, assistant_id: AssistantId, wanted: AssistantChange) -> Assistant:
    """Make a new version. Runs in flight keep the version they started with."""
    async with ports.storage.begin() as unit:
        now = await unit.assistants.lock(assistant_id)
        if now is None:
            raise NotFound.assistant(assistant_id)
        content = changed(now, wanted)
        if wanted.graph_id is not None:
            _check_graph(ports, wanted.graph_id)
        _check(content)
        made = await unit.assistants.update(assistant_id, content)
    ports.assistants.invalidate(assistant_id)
    return made


async def versions(
    ports: Ports, assistant_id: AssistantId, metadata: Encoded | None, page: Page
) -> Sequence[Assistant]:
    """The versions of an assistant, newest first."""
    async with ports.storage.single() as unit:
        if await unit.assistants.get(assistant_id) is None:
            raise NotFound.assistant(assistant_id)
        return await unit.assistants.versions(assistant_id, metadata, page)


async def set_latest(ports: Ports, assistant_id: AssistantId, version: int) -> Assistant:
    """Make an older version current again, with all it says. The next change still gets a new number."""
    async with ports.storage.begin() as unit:
        if await unit.assistants.lock(assistant_id) is None:
            raise NotFound.assistant(assistant_id)
        made = await unit.assistants.set_latest(assistant_id, version)
    if made is None:
        raise NotFound(f"Version {version} not found for assistant {assistant_id}")
    ports.assistants.invalidate(assistant_id)
    return made


async def delete(ports: Ports, assistant_id: AssistantId, *, delete_threads: bool = False) -> None:
    """Remove an assistant with its versions, and stop its runs; on request remove the threads that name it, too.

    Threads go first, one transaction each: a delete that was cut short can be repeated. Then the assistant goes, so
    that nothing starts any more, then what is still in flight is stopped.
    """
    await get(ports, assistant_id)
    for graph_id in ports.catalog.graphs:
        if assistant_id == system_assistant_id(graph_id):
            raise Conflict(
                f"Assistant {assistant_id} belongs to the server: runs by the name {graph_id!r} use it. "
                "Remove the graph from the configuration instead."
            )
    if delete_threads:
        async with ports.storage.single() as unit:
            doomed = await unit.assistants.threads_of(assistant_id)
        for thread_id in doomed:
            with suppress(NotFound):  # somebody else removed it meanwhile
                await threads.delete(ports, thread_id)
    async with ports.storage.begin() as unit:
        if not await unit.assistants.delete(assistant_id):
            raise NotFound.assistant(assistant_id)
    ports.assistants.invalidate(assistant_id)
    await _stop_runs(ports, assistant_id)


async def drawing(ports: Ports, ref: str, xray: bool | int) -> Encoded:
    """Nodes and edges. `ref` is an assistant's id or a graph id, here and below."""
    assistant = await _find(ports, ref)
    return await ports.catalog.drawing(assistant.graph_id, assistant.config, xray)


async def schemas(ports: Ports, ref: str) -> Encoded:
    assistant = await _find(ports, ref)
    return await ports.catalog.schemas(assistant.graph_id, assistant.config)


async def subgraphs(ports: Ports, ref: str, namespace: str | None, *, recurse: bool) -> Encoded:
    assistant = await _find(ports, ref)
    return await ports.catalog.subgraphs(assistant.graph_id, assistant.config, namespace, recurse=recurse)


async def _find(ports: Ports, ref: str) -> Assistant:
    assistant_id = resolve(ref, ports.catalog)
    if assistant_id is None:
        raise InvalidRequest("Invalid assistant ID: must be a UUID or the name of a graph")
    found = await get(ports, assistant_id)
    _check_graph(ports, found.graph_id)
    return found


async def _stop_runs(ports: Ports, assistant_id: AssistantId) -> None:
    async with ports.storage.single() as unit:
        inflight = await unit.assistants.inflight_of(assistant_id)
    for thread_id, run_id in inflight:
        with suppress(NotFound):  # it ended meanwhile
            await runs.cancel(ports, thread_id, run_id, CancelAction.INTERRUPT, wait=False)


def _check(content: AssistantContent) -> None:
    check_text(content.name, "name")
    check_text(content.description or "", "description")
    check_json(content.config, "config")
    check_json(content.context, "context")
    check_json(content.metadata, "metadata")


def _check_graph(ports: Ports, graph_id: str) -> None:
    if graph_id not in ports.catalog.graphs:
        shown = graph_id[:100].encode(errors="replace").decode()
        raise NotFound(f"Graph '{shown}' not found")


def _check_filter(wanted: AssistantFilter) -> None:
    check_text(wanted.graph_id or "", "graph_id")
    check_text(wanted.name or "", "name")
