"""Assistants on the wire (server-api 2.1 and 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field

from heddle_core.domain.assistant import UNTITLED, Assistant, AssistantChange, AssistantFilter
from heddle_core.domain.errors import InvalidRequest
from heddle_core.domain.ids import AssistantId
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.domain.storable import check_json
from heddle_core.domain.thread import IfExists, Page
from heddle_core.usecases.assistants import CreateAssistant
from heddle_server.http.schemas.wire import Body

AssistantField = Literal[
    "assistant_id",
    "graph_id",
    "name",
    "description",
    "config",
    "context",
    "metadata",
    "version",
    "created_at",
    "updated_at",
]
AssistantSort = Literal["assistant_id", "created_at", "updated_at", "name", "graph_id"]

_HIGHEST = 2**31 - 1

Limit = Annotated[int, Field(strict=True, ge=1, le=1000)]
Offset = Annotated[int, Field(strict=True, ge=0, le=_HIGHEST)]


class ConfigBody(Body):
    """What runs of the assistant are configured with. Other keys are kept as they are given."""

    model_config = ConfigDict(extra="allow", frozen=True)

    tags: list[str] | None = None
    recursion_limit: Annotated[int, Field(strict=True, ge=1, le=_HIGHEST)] | None = None
    configurable: dict[str, Any] | None = None

    def given(self) -> JsonObject:
        return self.model_dump(exclude_unset=True)


class AssistantCreate(Body):
    graph_id: str
    assistant_id: UUID | None = None
    config: ConfigBody | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    if_exists: IfExists = IfExists.RAISE
    name: str = UNTITLED
    description: str | None = None

    def command(self) -> CreateAssistant:
        return CreateAssistant(
            graph_id=self.graph_id,
            assistant_id=None if self.assistant_id is None else AssistantId(self.assistant_id),
            config=None if self.config is None else self.config.given(),
            context=self.context,
            metadata=self.metadata,
            if_exists=self.if_exists,
            name=self.name,
            description=self.description,
        )


class AssistantPatch(Body):
    """A new version. `metadata` is merged; what else is given replaces."""

    graph_id: str | None = None
    config: ConfigBody | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None

    def change(self) -> AssistantChange:
        return AssistantChange(
            graph_id=self.graph_id,
            config=None if self.config is None else self.config.given(),
            context=self.context,
            metadata=self.metadata,
            name=self.name,
            description=self.description,
        )


class AssistantCount(Body):
    metadata: dict[str, Any] | None = None
    graph_id: str | None = None
    name: str | None = None

    def filter(self) -> AssistantFilter:
        return AssistantFilter(graph_id=self.graph_id, name=self.name, metadata=_contained(self.metadata))


class AssistantSearch(AssistantCount):
    limit: Limit = 10
    offset: Offset = 0
    sort_by: AssistantSort = "created_at"
    sort_order: Literal["asc", "desc"] = "desc"
    select: list[AssistantField] | None = None

    def page(self) -> Page:
        return Page(
            limit=self.limit,
            offset=self.offset,
            sort_by=self.sort_by,
            descending=self.sort_order == "desc",
            select=frozenset(self.select) if self.select else None,
        )


class VersionSearch(Body):
    metadata: dict[str, Any] | None = None
    limit: Limit = 10
    offset: Offset = 0

    def contained(self) -> Encoded | None:
        return _contained(self.metadata)

    def page(self) -> Page:
        return Page(limit=self.limit, offset=self.offset)


class LatestVersion(Body):
    version: Annotated[int, Field(strict=True, ge=1, le=_HIGHEST)]


class VersionOut(BaseModel):
    """One version of an assistant."""

    assistant_id: UUID
    graph_id: str
    name: str
    description: str | None
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    version: int
    created_at: datetime


class AssistantOut(VersionOut):
    """An assistant, as its current version says."""

    updated_at: datetime


class FoundAssistantOut(BaseModel):
    """An assistant as a search found it: all fields, or those of `select`."""

    assistant_id: UUID | None = None
    graph_id: str | None = None
    name: str | None = None
    description: str | None = None
    config: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    version: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class DrawingOut(BaseModel):
    """The nodes and edges of a graph."""

    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]


class SchemasOut(BaseModel):
    """The JSON schemas of a graph; one that cannot be built is null or missing."""

    graph_id: str
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    state_schema: dict[str, Any] | None = None
    config_schema: dict[str, Any] | None = None
    context_schema: dict[str, Any] | None = None


def assistant_json(assistant: Assistant) -> JsonObject:
    return {**version_json(assistant), "updated_at": assistant.updated_at}


def version_json(version: Assistant) -> JsonObject:
    return {
        "assistant_id": str(version.assistant_id),
        "graph_id": version.graph_id,
        "name": version.name,
        "description": version.description,
        "config": version.config,
        "context": version.context,
        "metadata": version.metadata,
        "version": version.version,
        "created_at": version.created_at,
    }


def assistants_json(assistants: Sequence[Assistant], page: Page) -> list[JsonObject]:
    rows = [assistant_json(assistant) for assistant in assistants]
    if page.select is None:
        return rows
    return [{name: value for name, value in row.items() if name in page.select} for row in rows]


def xray_depth(given: str | None) -> bool | int:
    """How many levels of subgraphs a drawing opens: none, all, or a number."""
    match "false" if given is None else given.lower():
        case "true":
            return True
        case "false" | "0":
            return False
        case depth if depth.isascii() and depth.isdigit() and len(depth) < 10:
            return int(depth)
    raise InvalidRequest("Invalid xray value: must be true, false or a number of levels")


def _contained(metadata: JsonObject | None) -> Encoded | None:
    if not metadata:  # an empty object is contained in everything
        return None
    check_json(metadata, "body.metadata")
    return Encoded(orjson.dumps(metadata))
