"""The rules of namespaces and keys, and how a filter is read."""

from __future__ import annotations

import pytest

from heddle_core.domain.errors import BadRequest, HeddleError, InvalidRequest
from heddle_core.domain.item import Condition, Operator, check_key, check_namespace, conditions
from heddle_core.domain.json import JsonObject


@pytest.mark.parametrize("namespace", [("a",), ("a", "*"), ("a", "langgraph"), ("ü",), ("a" * 1024,), ("a",) * 64])
def test_a_namespace_is_accepted(namespace: tuple[str, ...]) -> None:
    check_namespace(namespace, "namespace")


@pytest.mark.parametrize(
    ("namespace", "error", "why"),
    [
        ((), BadRequest, "at least one label"),
        (("langgraph",), BadRequest, "reserved"),
        (("a", ""), InvalidRequest, "empty label"),
        (("a.b",), InvalidRequest, "dot"),
        (("a\x00",), InvalidRequest, "NUL"),
        (("\udc80",), InvalidRequest, "surrogates"),
        (("a",) * 65, InvalidRequest, "64 labels"),
        (("ü" * 513,), InvalidRequest, "1024 bytes"),
    ],
)
def test_a_namespace_is_refused(namespace: tuple[str, ...], error: type[HeddleError], why: str) -> None:
    with pytest.raises(error, match=f"^namespace: .*{why}"):
        check_namespace(namespace, "namespace")


@pytest.mark.parametrize("key", ["", "ü" * 513, "\x00", "\ud800"])
def test_a_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^key: "):
        check_key(key, "key")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, []),
        ({"a": 1}, [("a", Operator.EQ, 1)]),
        ({"a": {"b": 1}}, [("a", Operator.EQ, {"b": 1})]),
        ({"a": {"$gt": 1, "$lte": 5}, "b": None}, [("a", "$gt", 1), ("a", "$lte", 5), ("b", "$eq", None)]),
    ],
)
def test_a_filter_is_read_as_conditions(wanted: JsonObject, expected: list[tuple[str, Operator, object]]) -> None:
    assert conditions(wanted, "filter") == tuple(
        Condition(key=key, operator=Operator(operator), operand=operand) for key, operator, operand in expected
    )


@pytest.mark.parametrize(
    "wanted",
    [
        {"a": {"$near": 1}},
        {"a": {"$gt": 1, "plain": 2}},
        {"a": {"$gt": None}},
        {"a": {"$gt": True}},
        {"a": {"$lt": [1]}},
        {"a": {"$eq": "\x00"}},
        {"\x00": 1},
        {str(n): n for n in range(101)},
    ],
)
def test_a_filter_that_means_nothing_is_refused(wanted: JsonObject) -> None:
    with pytest.raises(InvalidRequest, match=r"^filter"):
        conditions(wanted, "filter")
