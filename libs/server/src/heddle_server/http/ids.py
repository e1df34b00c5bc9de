"""Ids in paths. Any UUID is accepted; anything else is 422 in the words clients know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, WithJsonSchema

from heddle_core.domain.errors import InvalidRequest
from heddle_core.domain.ids import AssistantId, RunId, ThreadId


def parse_id(given: object, kind: str) -> UUID:
    if isinstance(given, UUID):
        return given
    try:
        return UUID(str(given))
    except ValueError:
        raise InvalidRequest(f"Invalid {kind} ID: must be a UUID") from None


def _parser(kind: str) -> Callable[[object], UUID]:
    return lambda given: parse_id(given, kind)


_UUID = WithJsonSchema({"type": "string", "format": "uuid"})

ThreadPath = Annotated[ThreadId, BeforeValidator(_parser("thread")), _UUID]
RunPath = Annotated[RunId, BeforeValidator(_parser("run")), _UUID]
AssistantPath = Annotated[AssistantId, BeforeValidator(_parser("assistant")), _UUID]
CheckpointPath = Annotated[UUID, BeforeValidator(_parser("checkpoint")), _UUID]
