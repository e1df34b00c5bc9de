"""An assistant: a graph with a configuration, in numbered versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from heddle_core.domain.errors import BadRequest
from heddle_core.domain.ids import AssistantId
from heddle_core.domain.json import Encoded, JsonObject

UNTITLED = "Untitled"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantContent:
    """What a version of an assistant says. `config["configurable"]` and `context` mirror each other."""

    graph_id: str
    name: str
    description: str | None
    config: JsonObject
    context: JsonObject
    metadata: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant(AssistantContent):
    """One version of an assistant. `config` and `context` are decoded: every run merges them."""

    assistant_id: AssistantId
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantChange:
    """What the next version says otherwise. None: as it was. `metadata` is merged into what is there."""

    graph_id: str | None = None
    name: str | None = None
    description: str | None = None
    config: JsonObject | None = None
    context: JsonObject | None = None
    metadata: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantFilter:
    """Which assistants a search or a count means. `name` is a case-insensitive substring."""

    graph_id: str | None = None
    name: str | None = None
    metadata: Encoded | None = None


def mirrored(config: JsonObject | None, context: JsonObject | None) -> tuple[JsonObject, JsonObject]:
    """Config and context as they are stored: whichever of `configurable` and `context` is given fills the other."""
    config = config or {}
    configurable = config.get("configurable") or {}
    if configurable and context:
        raise BadRequest(
            "Cannot specify both configurable and context. Set context alone: configurable is filled from it."
        )
    if context:
        return {**config, "configurable": context}, context
    return config, configurable


def changed(now: AssistantContent, change: AssistantChange) -> AssistantContent:
    """What the next version says. A new context fills `configurable` and leaves the rest of the config alone."""
    config, context = now.config, now.context
    if change.config is not None:
        config, context = mirrored(change.config, change.context)
    elif change.context is not None:
        rest = {name: value for name, value in now.config.items() if name != "configurable"}
        config, context = mirrored(rest, change.context)
    return AssistantContent(
        graph_id=now.graph_id if change.graph_id is None else change.graph_id,
        name=now.name if change.name is None else change.name,
        description=now.description if change.description is None else change.description,
        config=config,
        context=context,
        metadata={**now.metadata, **(change.metadata or {})},
    )
