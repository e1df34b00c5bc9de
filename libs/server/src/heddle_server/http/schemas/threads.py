"""Threads on the wire (server-api 2.2 and 4.1 to 4.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType

from heddle_core.domain.errors import InvalidRequest
from heddle_core.domain.ids import ThreadId
from heddle_core.domain.json import EMPTY_OBJECT, JsonObject
from heddle_core.domain.thread import Extract, IfExists, Page, Thread, ThreadFilter, ThreadStatus
from heddle_core.ports.graph_runtime import StateUpdate
from heddle_core.usecases.threads import CreateThread
from heddle_server.http.answers import fragment
from heddle_server.http.schemas.jsonb import jsonb
from heddle_server.http.schemas.wire import Body

ThreadField = Literal[
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "config",
    "status",
    "values",
    "interrupts",
]
ThreadSort = Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"]
_NOT_ALIASES = frozenset(ThreadField.__args__) | {"error", "ttl", "extracted"}  # type: ignore[attr-defined]

_ROOTS = ("config", "interrupts", "metadata", "values")
_PATH = re.compile(r"(?P<root>\w+)(?P<rest>(?:\.[^.\[\]\0]+|\[-?[0-9]{1,9}\])*)", re.ASCII)
_SEGMENT = re.compile(r"\.([^.\[\]]+)|\[(-?[0-9]+)\]")
_MOST_EXTRACTS = 10
_HIGHEST_OFFSET = 2**31 - 1

Metadata = dict[str, Any]

# Named, because generated clients stumble over unions without a name.
StateValues = TypeAliasType("StateValues", dict[str, Any] | list[Any])


class UpdateBody(Body):
    """One update of a superstep."""

    values: StateValues | None = None
    command: dict[str, Any] | None = None
    as_node: str | None = None

    def update(self) -> StateUpdate:
        return StateUpdate(values=self.values, as_node=self.as_node, command=self.command)


class SuperstepBody(Body):
    """Updates that are applied as one step of the graph."""

    updates: Annotated[list[UpdateBody], Field(min_length=1)]


class ThreadCreate(Body):
    not_yet: ClassVar[frozenset[str]] = frozenset({"ttl"})
    nul_in: ClassVar[frozenset[str]] = frozenset({"supersteps"})

    thread_id: UUID | None = None
    metadata: Metadata = Field(default_factory=dict)
    if_exists: IfExists = IfExists.RAISE
    supersteps: list[SuperstepBody] = Field(default_factory=list)

    def command(self) -> CreateThread:
        return CreateThread(
            thread_id=None if self.thread_id is None else ThreadId(self.thread_id),
            metadata=jsonb(self.metadata, "body.metadata") if self.metadata else EMPTY_OBJECT,
            if_exists=self.if_exists,
            supersteps=tuple(tuple(each.update() for each in step.updates) for step in self.supersteps),
        )


class ThreadPatch(Body):
    """Changes of a thread. Metadata is merged: keys that are given replace those of the same name."""

    not_yet: ClassVar[frozenset[str]] = frozenset({"ttl", "values", "messages", "checkpoint"})

    metadata: Metadata = Field(default_factory=dict)


class ThreadCount(Body):
    metadata: Metadata | None = None
    values: dict[str, Any] | None = None
    status: ThreadStatus | None = None

    def filter(self) -> ThreadFilter:
        """An empty object filters nothing out, so it costs nothing either."""
        return ThreadFilter(
            metadata=jsonb(self.metadata, "body.metadata") if self.metadata else None,
            values=jsonb(self.values, "body.values") if self.values else None,
            status=self.status,
        )


class ThreadSearch(ThreadCount):
    ids: Annotated[list[UUID], Field(max_length=1000)] | None = None
    limit: Annotated[int, Field(strict=True, ge=1, le=1000)] = 10
    offset: Annotated[int, Field(strict=True, ge=0, le=_HIGHEST_OFFSET)] = 0
    sort_by: ThreadSort = "updated_at"
    sort_order: Literal["asc", "desc"] = "desc"
    select: list[ThreadField] | None = None
    extract: dict[str, str] | None = None

    def filter(self) -> ThreadFilter:
        rest = super().filter()
        ids = None if self.ids is None else tuple(ThreadId(each) for each in self.ids)
        return ThreadFilter(ids=ids, metadata=rest.metadata, values=rest.values, status=rest.status)

    def page(self) -> Page:
        return Page(
            limit=self.limit,
            offset=self.offset,
            sort_by=self.sort_by,
            descending=self.sort_order == "desc",
            select=frozenset(self.select) if self.select else None,
            extract=_extracts(self.extract or {}),
        )


def _extracts(wanted: dict[str, str]) -> tuple[Extract, ...]:
    if len(wanted) > _MOST_EXTRACTS:
        raise InvalidRequest(f"at most {_MOST_EXTRACTS} paths", field="body.extract")
    return tuple(_extract(alias, path) for alias, path in wanted.items())


def _extract(alias: str, path: str) -> Extract:
    if not (alias.isascii() and alias.isidentifier()) or alias in _NOT_ALIASES:
        raise InvalidRequest(f"alias {alias!r} must be an identifier and no field of a thread", field="body.extract")
    if re.split(r"[.\[]", path, maxsplit=1)[0] not in _ROOTS:
        raise InvalidRequest(f"Extract path {path!r} must start with one of: {', '.join(_ROOTS)}")
    match = _PATH.fullmatch(path)
    if match is None or not match["rest"].isprintable():
        raise InvalidRequest(f"Extract path {path!r} must be keys after dots and positions in brackets")
    segments = tuple(key or position for key, position in _SEGMENT.findall(match["rest"]))
    return Extract(alias=alias, root=match["root"], path=segments)


class ThreadOut(BaseModel):
    """A thread. A search with `select` sends only the fields it names."""

    thread_id: UUID
    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime
    metadata: Metadata
    config: dict[str, Any]
    status: ThreadStatus
    values: StateValues | None
    interrupts: dict[str, Any]
    error: dict[str, Any] | None


class FoundThreadOut(BaseModel):
    """A thread as a search found it: all fields, or those of `select`; `extracted` when `extract` was given."""

    thread_id: UUID | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    state_updated_at: datetime | None = None
    metadata: Metadata | None = None
    config: dict[str, Any] | None = None
    status: ThreadStatus | None = None
    values: StateValues | None = None
    interrupts: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    extracted: dict[str, Any] | None = None


def thread_json(thread: Thread) -> JsonObject:
    """Ready to be encoded: the JSON columns go out as the text they came as."""
    return {
        "thread_id": str(thread.thread_id),
        "created_at": thread.created_at,
        "updated_at": thread.updated_at,
        "state_updated_at": thread.state_updated_at,
        "metadata": fragment(thread.metadata),
        "config": fragment(thread.config),
        "status": thread.status,
        "values": fragment(thread.values),
        "interrupts": fragment(thread.interrupts),
        "error": fragment(thread.error),
    }


def threads_json(threads: Sequence[Thread], page: Page) -> list[JsonObject]:
    rows = [thread_json(thread) for thread in threads]
    if page.select is not None:
        rows = [{name: value for name, value in row.items() if name in page.select} for row in rows]
    if page.extract:
        for row, thread in zip(rows, threads, strict=True):
            row["extracted"] = fragment(thread.extracted)
    return rows
