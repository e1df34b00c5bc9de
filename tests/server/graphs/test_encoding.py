"""Everything a graph says has a JSON form."""

from __future__ import annotations

import json
from collections import deque, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.types import Interrupt, Send
from pydantic import BaseModel, SecretStr

from heddle_server.graphs.encoding import encode, text_of


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    _hidden: int = 0


class Base(BaseModel):
    name: str


class Derived(Base):
    more: int


class Holder(BaseModel):
    held: Base
    key: SecretStr


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Text(str):
    __slots__ = ()


Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Point(1), {"x": 1}),
        (
            Holder(held=Derived(name="n", more=1), key=SecretStr("k")),
            {"held": {"name": "n", "more": 1}, "key": "*" * 10},
        ),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (timedelta(seconds=90), 90.0),
        (Colour.RED, "red"),
        ({Colour.RED: 1, None: 2, True: 3, 4: 5}, {"red": 1, "null": 2, "true": 3, "4": 5}),
        (b"text", "text"),
        (b"\xff\x00", "/wA="),
        (Decimal("1.5"), "1.5"),
        (Path("/a"), "/a"),
        ({1}, [1]),
        (frozenset({1}), [1]),
        (deque([1, 2]), [1, 2]),
        ((1, (2,)), [1, [2]]),
        (Pair(1, 2), {"left": 1, "right": 2}),
        (Send("node", {"a": 1}), {"node": "node", "input": {"a": 1}}),
        (Interrupt("why", id="i"), {"value": "why", "id": "i", "response_schema": None}),
        (ValueError("bad"), {"error": "ValueError", "message": "bad"}),
        ([float("nan"), float("inf"), -float("inf")], [None, None, None]),
        ("a\0b \\u0000 \\\0", "a\ufffdb \\u0000 \\\ufffd"),
        ({"\0": 1}, {"\ufffd": 1}),
        ("\ud800", "\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ({"\ud800": [Text("\ud800")]}, {"\ufffd": ["\ufffd"]}),
        ([2**70, -(2**70)], [2**70, -(2**70)]),
        (Broken(), "<Broken>"),
    ],
)
def test_a_value_is_shown_as(value: Any, shown: Any) -> None:
    assert json.loads(encode(value)) == shown


def test_a_number_too_long_to_write_is_written_in_hexadecimal() -> None:
    assert json.loads(encode([10**5000])) == [hex(10**5000)]


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage("hi", id="1", name="n"),
        HumanMessage([{"type": "text", "text": "hi"}], more="extra"),
        SystemMessage("be good"),
        AIMessage("hi", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "c", "type": "tool_call"}]),
        AIMessage("hi", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
        AIMessageChunk(content="h", id="1", chunk_position="last"),
        ToolMessage("2", tool_call_id="c", artifact={"a": 1}, status="error"),
        RemoveMessage(id="gone"),
    ],
)
def test_a_message_is_the_dict_its_own_dump_makes(message: BaseMessage) -> None:
    assert json.loads(encode([message])) == [json.loads(json.dumps(message.model_dump()))]


def test_what_a_message_computes_about_itself_is_not_shown() -> None:
    message = AIMessage("hi")
    message.__dict__["cached"] = "by a cached property"
    assert "cached" not in json.loads(encode(message))


def test_a_cycle_is_cut_and_depth_is_bounded() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(1000):
        inner["deeper"] = inner = {}

    assert json.loads(encode(ring)) == [1, "<cycle>"]
    assert '"..."' in encode(deep).decode()


def test_the_same_object_twice_is_no_cycle() -> None:
    shared = {"a": "\ud800"}
    assert json.loads(encode([shared, shared])) == [{"a": "\ufffd"}, {"a": "\ufffd"}]


def test_the_text_of_an_error_can_always_be_stored() -> None:
    assert text_of(ValueError("a\0\ud800")) == "a\ufffd\ufffd"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner) | st.tuples(inner),
    max_leaves=20,
)


@given(ANYTHING)
def test_any_value_becomes_json_that_postgres_takes(value: Any) -> None:
    text = encode(value)
    assert "\0" not in repr(json.loads(text))
    text.decode()
