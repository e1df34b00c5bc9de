"""JSON of a body that is stored in, or compared with, a JSONB column."""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import AfterValidator

from heddle_core.domain.errors import InvalidRequest
from heddle_core.domain.json import Encoded, Json, JsonObject


def jsonb(value: JsonObject, field: str) -> Encoded:
    """The text of a JSON object. Raises `InvalidRequest` for what JSONB cannot hold."""
    try:
        text = orjson.dumps(value)
    except TypeError as refused:  # a lone surrogate, an integer beyond 64 bits, too deep
        raise InvalidRequest(f"cannot be stored as JSON: {refused}", field=field) from None
    if b"\\u0000" in text and _has_nul(value):
        raise InvalidRequest("must not contain NUL characters", field=field)
    return Encoded(text)


def _has_nul(value: Json) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any("\0" in key or _has_nul(inner) for key, inner in value.items())
        case list():
            return any(_has_nul(inner) for inner in value)
    return False


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain lone surrogates") from None
    return text


PlainText = Annotated[str, AfterValidator(_plain)]
"""Text that a Postgres text column can hold."""
