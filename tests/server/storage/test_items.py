"""Store items in Postgres: addresses, prefixes, conditions, namespaces."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from heddle_core.domain.item import Namespace, check_key, check_namespace, conditions
from heddle_core.domain.json import JsonObject
from heddle_core.ports.storage import ItemFilter, NamespaceFilter
from tests.support.assistant_world import World, shared_database, world

__all__ = ["shared_database", "world"]


async def put(world: World, namespace: Namespace, key: str, value: JsonObject) -> None:
    async with world.storage.begin() as unit:
        await unit.items.put(namespace, key, value)


async def found(world: World, prefix: Namespace, wanted: JsonObject, *, limit: int = 100, offset: int = 0) -> list[str]:
    async with world.storage.begin() as unit:
        meeting = ItemFilter(prefix=prefix, conditions=conditions(wanted, "filter"))
        return [item.key for item in await unit.items.search(meeting, limit, offset)]


async def namespaces(world: World, **wanted: Any) -> list[Namespace]:
    async with world.storage.begin() as unit:
        return list(await unit.items.namespaces(NamespaceFilter(**wanted)))


async def test_a_second_put_replaces_the_value_and_keeps_when_it_was_made(world: World) -> None:
    await put(world, ("a",), "k", {"n": 1, "old": True})
    async with world.storage.begin() as unit:
        first = await unit.items.get(("a",), "k")
    await put(world, ("a",), "k", {"n": 2})
    async with world.storage.begin() as unit:
        second = await unit.items.get(("a",), "k")

    assert first is not None
    assert second is not None
    assert second.value == b'{"n": 2}'
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at


async def test_the_same_key_in_two_namespaces_is_two_items(world: World) -> None:
    await put(world, ("a",), "k", {"n": 1})
    await put(world, ("a", "b"), "k", {"n": 2})
    async with world.storage.begin() as unit:
        assert await unit.items.delete(("a",), "k")
        assert not await unit.items.delete(("a",), "k")
        assert await unit.items.get(("a",), "k") is None
        assert await unit.items.get(("a", "b"), "k") is not None


@pytest.mark.parametrize("label", ['"', "\\", "{}", "a,b", "NULL", " ", "naïve ü 🙂", "'", "\x01", "%_"])
async def test_any_label_and_key_comes_back_as_it_went_in(world: World, label: str) -> None:
    await put(world, ("x", label), label, {"it": label})
    async with world.storage.begin() as unit:
        item = await unit.items.get(("x", label), label)
    assert item is not None
    assert (item.namespace, item.key) == (("x", label), label)
    assert await found(world, ("x", label), {"it": label}) == [label]


async def test_the_longest_address_that_is_allowed_fits_into_the_index(world: World) -> None:
    namespace = tuple(secrets.token_hex(8) for _ in range(64))
    key = secrets.token_hex(512)
    check_namespace(namespace, "namespace")
    check_key(key, "key")
    await put(world, namespace, key, {})
    single = (secrets.token_hex(512),)
    check_namespace(single, "namespace")
    await put(world, single, key, {})
    assert await found(world, namespace, {}) == [key]
    assert await found(world, single, {}) == [key]


async def test_a_prefix_is_whole_labels_in_any_collation(world: World) -> None:
    for namespace in [("a",), ("a", "b"), ("ab",), ("a\x01",), ("A",), ("a", "b", "c"), ("a-b",), ("a", "bb")]:
        await put(world, namespace, "/".join(namespace), {})
    assert set(await found(world, ("a",), {})) == {"a", "a/b", "a/b/c", "a/bb"}
    assert set(await found(world, ("a", "b"), {})) == {"a/b", "a/b/c"}
    assert len(await found(world, (), {})) == 8


async def test_the_schema_orders_addresses_by_code_point_whatever_the_database_does(world: World) -> None:
    """The embedded database sorts like this anyway; one that does not needs the columns to say so."""
    collations = await world.execute(
        "SELECT attname, collname FROM pg_attribute JOIN pg_collation c ON c.oid = attcollation"
        " WHERE attrelid = 'heddle.item'::regclass AND attname IN ('namespace', 'key')"
    )
    assert {tuple(row) for row in collations} == {("namespace", "C"), ("key", "C")}


VALUES: list[tuple[str, JsonObject]] = [
    ("nine", {"n": 9}),
    ("ten", {"n": 10}),
    ("ten_and_a_bit", {"n": 10.5}),
    ("text_ten", {"n": "10"}),
    ("text_b", {"n": "b"}),
    ("true", {"n": True}),
    ("null", {"n": None}),
    ("list", {"n": [10]}),
    ("object", {"n": {"a": 1, "b": 2}}),
    ("absent", {"m": 1}),
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"n": 10}, {"ten"}),
        ({"n": 10.0}, {"ten"}),
        ({"n": "10"}, {"text_ten"}),
        ({"n": True}, {"true"}),
        ({"n": None}, {"null"}),
        ({"n": [10]}, {"list"}),
        ({"n": {"b": 2, "a": 1}}, {"object"}),
        ({"n": {"a": 1}}, set()),
        ({"n": {}}, set()),
        ({"n": {"$eq": {"a": 1, "b": 2}}}, {"object"}),
        ({"n": {"$gt": 9}}, {"ten", "ten_and_a_bit"}),
        ({"n": {"$gte": 9, "$lt": 10.5}}, {"nine", "ten"}),
        ({"n": {"$lte": 10}}, {"nine", "ten"}),
        ({"n": {"$gt": "10"}}, {"text_b"}),
        ({"n": {"$gte": "10"}}, {"text_ten", "text_b"}),
        ({"n": {"$lt": "b"}}, {"text_ten"}),
        ({"n": {"$ne": 10}}, {name for name, value in VALUES if "n" in value} - {"ten"}),
        ({"n": {"$ne": None}}, {name for name, value in VALUES if "n" in value} - {"null"}),
        ({"n": 10, "m": 1}, set()),
        ({"m": 1}, {"absent"}),
        ({}, {name for name, _ in VALUES}),
    ],
)
async def test_conditions_compare_json_values(world: World, wanted: JsonObject, expected: set[str]) -> None:
    for key, value in VALUES:
        await put(world, ("v",), key, value)
    assert set(await found(world, ("v",), wanted)) == expected
    assert set(await found(world, (), wanted)) == expected


async def test_strings_are_ordered_by_code_point(world: World) -> None:
    for text in ("Z", "a", "é"):
        await put(world, ("s",), text, {"t": text})
    assert set(await found(world, ("s",), {"t": {"$lt": "a"}})) == {"Z"}
    assert set(await found(world, ("s",), {"t": {"$gt": "a"}})) == {"é"}


async def test_a_search_is_newest_first_and_pages_do_not_overlap(world: World) -> None:
    async with world.storage.begin() as unit:  # one moment for all: the tie is broken by address
        for key in ("c", "a", "b"):
            await unit.items.put(("t",), key, {})
    await put(world, ("t",), "newest", {})
    assert await found(world, ("t",), {}) == ["newest", "a", "b", "c"]
    assert await found(world, ("t",), {}, limit=2) == ["newest", "a"]
    assert await found(world, ("t",), {}, limit=2, offset=2) == ["b", "c"]


async def test_namespaces_match_wildcards_and_are_cut_to_a_depth(world: World) -> None:
    for namespace in [("u", "1", "docs"), ("u", "2", "docs"), ("u", "2", "notes", "x"), ("other",)]:
        await put(world, namespace, "k", {})
        await put(world, namespace, "l", {})
    assert await namespaces(world) == [("other",), ("u", "1", "docs"), ("u", "2", "docs"), ("u", "2", "notes", "x")]
    assert await namespaces(world, prefix=("u", "*", "docs")) == [("u", "1", "docs"), ("u", "2", "docs")]
    assert await namespaces(world, suffix=("docs",)) == [("u", "1", "docs"), ("u", "2", "docs")]
    assert await namespaces(world, suffix=("notes", "*")) == [("u", "2", "notes", "x")]
    assert await namespaces(world, prefix=("u", "2"), suffix=("docs",)) == [("u", "2", "docs")]
    assert await namespaces(world, prefix=("*",), max_depth=1) == [("other",), ("u",)]
    assert await namespaces(world, prefix=("u",), max_depth=2) == [("u", "1"), ("u", "2")]
    assert await namespaces(world, limit=2, offset=1) == [("u", "1", "docs"), ("u", "2", "docs")]
    assert await namespaces(world, prefix=("u", "1", "docs", "deeper")) == []
    assert await namespaces(world, suffix=("a", "b", "c", "d", "e", "f")) == []
