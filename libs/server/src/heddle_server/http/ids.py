"""Ids in paths. A text that is not a UUID is 422, with the sentence that clients know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path
from pydantic import BeforeValidator

from heddle_core.domain.errors import InvalidRequest
from heddle_core.domain.ids import AssistantId, RunId, ThreadId


def _uuid(noun: str) -> Callable[[Any], UUID]:
    def parse(text: Any) -> UUID:
        if isinstance(text, UUID):
            return text
        try:
            return UUID(text)
        except (ValueError, TypeError, AttributeError):
            raise InvalidRequest(f"Invalid {noun} ID: must be a UUID") from None

    return parse


ThreadPath = Annotated[ThreadId, Path(alias="thread_id"), BeforeValidator(_uuid("thread"))]
RunPath = Annotated[RunId, Path(alias="run_id"), BeforeValidator(_uuid("run"))]
AssistantPath = Annotated[AssistantId, Path(alias="assistant_id"), BeforeValidator(_uuid("assistant"))]
CheckpointPath = Annotated[UUID, Path(alias="checkpoint_id"), BeforeValidator(_uuid("checkpoint"))]
