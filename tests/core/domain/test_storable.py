"""What is refused before Postgres would."""

from __future__ import annotations

import pytest

from heddle_core.domain.errors import InvalidRequest
from heddle_core.domain.json import Json
from heddle_core.domain.storable import check_json


def nested(levels: int) -> Json:
    value: Json = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [{}, None, {"a": [1, 2.5, "x", None, True, {"b": []}]}, 2**64 - 1, -(2**63), "🙂", nested(200)],
    ids=str,
)
def test_json_is_accepted(value: Json) -> None:
    check_json(value, "value")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"a": ["\x00"]}, "NUL"),
        ({"a\x00": 1}, "NUL"),
        ({"a": "\ud800"}, "surrogates"),
        ({"a": 2**64}, "64 bits"),
        ({"a": float("inf")}, "Infinity"),
        ({1: 1}, "strings as keys"),
        ({"a": {1, 2}}, "set is not"),
        (nested(201), "nested deeper"),
        (nested(100_000), "nested deeper"),
    ],
    ids=lambda given: str(given)[:20] if isinstance(given, dict) else None,
)
def test_what_cannot_be_kept_is_refused_and_the_field_is_named(value: Json, why: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^metadata: .*{why}"):
        check_json(value, "metadata")
