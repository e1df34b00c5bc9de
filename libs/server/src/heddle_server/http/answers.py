"""JSON answers. Rows carry JSON text, which goes to the client without a decode and an encode between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson
from fastapi import Response

from heddle_core.domain.json import Encoded

JSON = "application/json"


def fragment(text: Encoded | None) -> orjson.Fragment | None:
    """JSON text as a value inside an object that is about to be encoded."""
    return None if text is None else orjson.Fragment(text)


def json_answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Datetimes are written as ISO 8601 with microseconds and `+00:00`, UUIDs as strings."""
    return Response(orjson.dumps(value, _subclass), status, headers, media_type=JSON)


def _subclass(value: object) -> str:
    """The encoder takes a UUID itself, but not the subclass of it that a database driver hands out."""
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def encoded_answer(text: Encoded, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text, status, headers, media_type=JSON)
