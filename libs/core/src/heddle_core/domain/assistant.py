"""An assistant: a graph with a configuration, in numbered versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from heddle_core.domain.ids import AssistantId
from heddle_core.domain.json import Encoded, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """One version of an assistant. `config` and `context` are decoded: every run merges them."""

    assistant_id: AssistantId
    graph_id: str
    name: str
    description: str | None
    config: JsonObject
    context: JsonObject
    metadata: JsonObject
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def is_system(self) -> bool:
        return self.metadata.get("created_by") == "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantFilter:
    """Which assistants a search or a count means. `name` is a case-insensitive substring."""

    graph_id: str | None = None
    name: str | None = None
    metadata: Encoded | None = None
