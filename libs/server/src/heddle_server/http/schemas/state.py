"""Thread states on the wire (server-api 2.4, 4.4 and 4.5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, Field, model_validator
from typing_extensions import TypeAliasType

from heddle_core.domain.errors import InvalidRequest
from heddle_core.domain.json import Encoded, Json, JsonObject
from heddle_core.ports.graph_runtime import StateUpdate
from heddle_server.http.schemas.jsonb import PlainText, jsonb
from heddle_server.http.schemas.threads import StateValues
from heddle_server.http.schemas.wire import Body

_STATE_FIELDS = frozenset(
    {
        "values",
        "next",
        "tasks",
        "metadata",
        "created_at",
        "checkpoint",
        "parent_checkpoint",
        "interrupts",
        "checkpoint_id",
        "parent_checkpoint_id",
    }
)


class CheckpointBody(Body):
    """Names a checkpoint, alone or under `configurable`. Without an id: the latest. The thread is the path's."""

    checkpoint_id: UUID | None = None
    checkpoint_ns: PlainText | None = None
    checkpoint_map: dict[PlainText, PlainText] | None = None

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("configurable"), dict):
            return given["configurable"]
        return given

    def config(self) -> JsonObject:
        named: JsonObject = {}
        if self.checkpoint_id is not None:
            named["checkpoint_id"] = str(self.checkpoint_id)
        if self.checkpoint_ns is not None:
            named["checkpoint_ns"] = self.checkpoint_ns
        if self.checkpoint_map is not None:
            named["checkpoint_map"] = self.checkpoint_map
        return named


class StateAtCheckpoint(Body):
    checkpoint: CheckpointBody
    subgraphs: Annotated[bool, Field(strict=True)] = False
    select: list[str] | None = None


# Named, because generated clients stumble over unions without a name.
StateUpdateValues = TypeAliasType("StateUpdateValues", dict[str, Any] | list[dict[str, Any] | None])
Before = TypeAliasType("Before", UUID | CheckpointBody)


class StateUpdateBody(Body):
    """An update. A list of values is applied as so many steps; `values` null forks or clears, as `as_node` says."""

    nullable: ClassVar[frozenset[str]] = frozenset({"values"})
    nul_in: ClassVar[frozenset[str]] = frozenset({"values"})

    values: StateUpdateValues | None = None
    as_node: str | None = None
    checkpoint: CheckpointBody | None = None
    checkpoint_id: UUID | None = None

    def base(self) -> JsonObject | None:
        """The checkpoint to start from; `checkpoint_id` is the older spelling and loses against `checkpoint`."""
        named: JsonObject = {} if self.checkpoint_id is None else {"checkpoint_id": str(self.checkpoint_id)}
        return (named | self.checkpoint.config() if self.checkpoint else named) or None

    def updates(self) -> Sequence[Sequence[StateUpdate]]:
        steps = self.values if isinstance(self.values, list) else [self.values]
        if not steps:
            raise InvalidRequest("must have at least one update", field="body.values")
        return tuple((StateUpdate(values=values, as_node=self.as_node),) for values in steps)


class StatePatch(Body):
    metadata: dict[str, Any] = Field(default_factory=dict)


class HistoryBody(Body):
    limit: Annotated[int, Field(strict=True, ge=1, le=1000)] = 10
    before: Before | None = None
    metadata: dict[str, Any] | None = None
    checkpoint: CheckpointBody | None = None
    select: list[str] | None = None

    def before_config(self) -> JsonObject | None:
        if isinstance(self.before, CheckpointBody):
            named = self.before.config()
            return named if "checkpoint_id" in named else None
        return None if self.before is None else {"checkpoint_id": str(self.before)}

    def metadata_filter(self) -> JsonObject | None:
        """Refuses what no checkpoint's metadata can hold."""
        if self.metadata:
            jsonb(self.metadata, "body.metadata")
        return self.metadata or None


class CheckpointOut(BaseModel):
    thread_id: UUID
    checkpoint_ns: str
    checkpoint_id: str | None = None
    checkpoint_map: dict[str, str] | None = None


class StateOut(BaseModel):
    """The state of a thread at a checkpoint; with `select` only the fields it names."""

    values: StateValues | None = None
    next: list[str] | None = None
    tasks: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None
    created_at: str | None = None
    checkpoint: CheckpointOut | None = None
    parent_checkpoint: CheckpointOut | None = None
    interrupts: list[dict[str, Any]] | None = None
    checkpoint_id: str | None = None
    parent_checkpoint_id: str | None = None


class UpdatedOut(BaseModel):
    """The checkpoint that an update made. `configurable` says the same to older clients."""

    checkpoint: CheckpointOut
    configurable: CheckpointOut
    checkpoint_id: str


def updated_json(checkpoint: JsonObject) -> JsonObject:
    return {"checkpoint": checkpoint, "configurable": checkpoint, "checkpoint_id": checkpoint["checkpoint_id"]}


class StateSelect:
    """Which fields of a state are sent; `values.<key>` selects one key of the values. Nothing named: all."""

    def __init__(self, names: Sequence[str] | None, field: str) -> None:
        names = names or ()
        for name in names:
            if name not in _STATE_FIELDS and not (name.startswith("values.") and len(name) > len("values.")):
                raise InvalidRequest(f"unknown field {name!r}", field=field)
        self._fields = frozenset(names) & _STATE_FIELDS
        self._keys = frozenset(name.removeprefix("values.") for name in names if name not in _STATE_FIELDS)

    def apply(self, encoded: Encoded) -> Encoded:
        if not self._fields and not self._keys:
            return encoded
        # The standard decoder keeps integers of any size.
        decoded = json.loads(encoded)
        picked = [self._pick(each) for each in decoded] if isinstance(decoded, list) else self._pick(decoded)
        return Encoded(json.dumps(picked, ensure_ascii=False, separators=(",", ":")).encode())

    def _pick(self, state: JsonObject) -> JsonObject:
        picked = {name: value for name, value in state.items() if name in self._fields}
        if self._keys and "values" not in self._fields:
            picked["values"] = self._pick_values(state.get("values"))
        return picked

    def _pick_values(self, values: Json) -> Json:
        if not isinstance(values, dict):
            return {}
        return {key: value for key, value in values.items() if key in self._keys}
