"""What Postgres can keep. Text there has no NUL, JSON no lone surrogates; saying so early names the field."""

from __future__ import annotations

import math
from collections.abc import Iterator

from heddle_core.domain.errors import InvalidRequest
from heddle_core.domain.json import Json

MAX_DEPTH = 200
_INTEGERS = range(-(2**63), 2**64)


def check_text(text: str, field: str) -> None:
    """Raise `InvalidRequest` unless the text can be stored."""
    if "\x00" in text:
        raise InvalidRequest("must not contain NUL characters", field=field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("must be valid Unicode, without lone surrogates", field=field) from None


def check_json(value: Json, field: str) -> None:
    """Raise `InvalidRequest` unless the value is JSON that can be stored and handed back as it came."""
    level: list[Json] = [value]
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return
        level = [child for node in level for child in _children(node, field)]
    if level:
        raise InvalidRequest(f"must not be nested deeper than {MAX_DEPTH} levels", field=field)


def _children(node: Json, field: str) -> Iterator[Json]:
    match node:
        case None | bool():
            return
        case str():
            check_text(node, field)
        case int():
            if node not in _INTEGERS:
                raise InvalidRequest("must not hold integers beyond 64 bits", field=field)
        case float():
            if not math.isfinite(node):
                raise InvalidRequest("must not hold NaN or Infinity", field=field)
        case dict():
            for key in node:
                if not isinstance(key, str):
                    raise InvalidRequest("must have only strings as keys", field=field)
                check_text(key, field)
            yield from node.values()
        case list() | tuple():
            yield from node
        case _:
            raise InvalidRequest(f"must be JSON, and {type(node).__name__} is not", field=field)
