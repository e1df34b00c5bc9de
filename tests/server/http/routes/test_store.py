"""The store over HTTP, on a real database."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.support.assistant_world import client, shared_database, world

__all__ = ["client", "shared_database", "world"]


async def put(client: httpx.AsyncClient, namespace: list[str], key: str, value: dict[str, Any]) -> None:
    answer = await client.put("/store/items", json={"namespace": namespace, "key": key, "value": value})
    assert (answer.status_code, answer.content) == (204, b""), answer.text


async def get(client: httpx.AsyncClient, **params: Any) -> Any:
    answer = await client.get("/store/items", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def search(client: httpx.AsyncClient, **body: Any) -> list[dict[str, Any]]:
    answer = await client.post("/store/items/search", json=body)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_an_item_comes_back_as_it_was_put(client: httpx.AsyncClient) -> None:
    value = {"text": 'ü "quoted" \\ 🙂\n', "n": [1, 2.5, None, True], "deep": {"a": {"b": {}}}, "big": 2**63}
    await put(client, ["users", "1"], "a key/with.dots", value)
    item = await get(client, namespace="users.1", key="a key/with.dots")
    assert item["value"] == value
    assert (item["namespace"], item["key"]) == (["users", "1"], "a key/with.dots")
    assert item["created_at"] == item["updated_at"]
    assert item["created_at"].endswith("+00:00")
    assert set(item) == {"namespace", "key", "value", "created_at", "updated_at"}


async def test_a_namespace_is_one_dotted_value_or_a_value_per_label(client: httpx.AsyncClient) -> None:
    await put(client, ["a", "b"], "k", {"n": 1})
    await put(client, ["a"], "k", {"n": 2})
    assert (await get(client, namespace="a.b", key="k"))["value"] == {"n": 1}
    assert (await get(client, namespace=["a", "b"], key="k"))["value"] == {"n": 1}
    assert (await get(client, namespace="a", key="k"))["value"] == {"n": 2}


async def test_a_missing_item_is_null_and_deleting_it_is_fine(client: httpx.AsyncClient) -> None:
    assert await get(client, namespace="a", key="k") is None
    await put(client, ["a"], "k", {})
    for _ in range(2):
        answer = await client.request("DELETE", "/store/items", json={"namespace": ["a"], "key": "k"})
        assert (answer.status_code, answer.content) == (204, b"")
    assert await get(client, namespace="a", key="k", refresh_ttl="false") is None


async def test_a_search_finds_by_prefix_and_filter_newest_first(client: httpx.AsyncClient) -> None:
    for n, namespace in enumerate([["a"], ["a", "b"], ["ab"], ["a", "b", "c"]]):
        await put(client, namespace, "k", {"n": n, "even": n % 2 == 0})
    assert [item["value"]["n"] for item in await search(client)] == [3, 2, 1, 0]
    assert [item["value"]["n"] for item in await search(client, namespace_prefix=[])] == [3, 2, 1, 0]
    under = await search(client, namespace_prefix=["a"], query="anything", refresh_ttl=False)
    assert [item["namespace"] for item in under] == [["a", "b", "c"], ["a", "b"], ["a"]]
    assert [item["score"] for item in under] == [None] * 3
    assert [item["value"]["n"] for item in await search(client, filter={"even": True, "n": {"$lt": 2}})] == [0]
    assert [item["value"]["n"] for item in await search(client, limit=2, offset=1)] == [2, 1]
    assert await search(client, namespace_prefix=["nobody"]) == []


async def test_a_change_moves_an_item_to_the_front(client: httpx.AsyncClient) -> None:
    for key in ("one", "two"):
        await put(client, ["a"], key, {})
    await put(client, ["a"], "one", {"new": 1})
    assert [item["key"] for item in await search(client)] == ["one", "two"]


async def test_namespaces_are_listed(client: httpx.AsyncClient) -> None:
    for namespace in (["u", "1", "docs"], ["u", "2", "docs"], ["u", "2", "notes"]):
        await put(client, namespace, "k", {})

    async def listed(**body: Any) -> Any:
        return (await client.post("/store/namespaces", json=body)).json()

    assert await listed() == {"namespaces": [["u", "1", "docs"], ["u", "2", "docs"], ["u", "2", "notes"]]}
    assert await listed(prefix=["u", "*"], suffix=["notes"]) == {"namespaces": [["u", "2", "notes"]]}
    assert await listed(max_depth=2) == {"namespaces": [["u", "1"], ["u", "2"]]}
    assert await listed(limit=1, offset=1) == {"namespaces": [["u", "2", "docs"]]}
    assert await listed(prefix=None, max_depth=None, limit=None, suffix=["nobody"]) == {"namespaces": []}


async def test_the_longest_address_is_stored_and_found(client: httpx.AsyncClient) -> None:
    namespace, key = [secrets.token_hex(8) for _ in range(64)], secrets.token_hex(512)
    await put(client, namespace, key, {"n": 1})
    assert (await get(client, namespace=".".join(namespace), key=key))["value"] == {"n": 1}
    assert [item["key"] for item in await search(client, namespace_prefix=namespace)] == [key]


async def test_the_official_client_uses_the_store(client: httpx.AsyncClient) -> None:
    sdk = LangGraphClient(client).store
    await sdk.put_item(["users", "1"], "prefs", {"theme": "dark"})
    item = await sdk.get_item(["users", "1"], "prefs")
    assert (item["namespace"], item["key"], item["value"]) == (["users", "1"], "prefs", {"theme": "dark"})
    found = await sdk.search_items(["users"], filter={"theme": "dark"})
    assert [each["key"] for each in found["items"]] == ["prefs"]
    assert await sdk.list_namespaces(prefix=["users"]) == {"namespaces": [["users", "1"]]}
    await sdk.delete_item(["users", "1"], "prefs")
    assert (await sdk.search_items([]))["items"] == []


GOOD = {"namespace": ["a"], "key": "k", "value": {}}
ITEMS, SEARCH, NAMESPACES = "/store/items", "/store/items/search", "/store/namespaces"
BAD: list[tuple[str, str, Any, int, str]] = [
    ("PUT", ITEMS, {**GOOD, "namespace": []}, 400, "namespace"),
    ("PUT", ITEMS, {**GOOD, "namespace": ["langgraph", "x"]}, 400, "reserved"),
    ("PUT", ITEMS, {**GOOD, "namespace": ["a", ""]}, 422, "empty label"),
    ("PUT", ITEMS, {**GOOD, "namespace": ["a.b"]}, 422, "dot"),
    ("PUT", ITEMS, {**GOOD, "namespace": ["\x00"]}, 422, "NUL"),
    ("PUT", ITEMS, {**GOOD, "namespace": ["\ud800"]}, 422, "surrogate"),
    ("PUT", ITEMS, {**GOOD, "namespace": ["a"] * 65}, 422, "64 labels"),
    ("PUT", ITEMS, {**GOOD, "namespace": ["a" * 1025]}, 422, "1024 bytes"),
    ("PUT", ITEMS, {**GOOD, "namespace": ["a"] * 100_000}, 422, "64 labels"),
    ("PUT", ITEMS, {**GOOD, "namespace": "a.b"}, 422, "namespace"),
    ("PUT", ITEMS, {**GOOD, "namespace": [1]}, 422, "namespace"),
    ("PUT", ITEMS, {**GOOD, "key": ""}, 422, "key"),
    ("PUT", ITEMS, {**GOOD, "key": "k" * 1025}, 422, "1024 bytes"),
    ("PUT", ITEMS, {**GOOD, "key": "ü" * 1_000_000}, 422, "1024 bytes"),
    ("PUT", ITEMS, {**GOOD, "key": "\x00"}, 422, "NUL"),
    ("PUT", ITEMS, {**GOOD, "key": 1}, 422, "key"),
    ("PUT", ITEMS, {**GOOD, "value": {"a": ["\x00"]}}, 422, "NUL"),
    ("PUT", ITEMS, {**GOOD, "value": {"a\x00": 1}}, 422, "NUL"),
    ("PUT", ITEMS, {**GOOD, "value": {"a": "\ud800"}}, 422, "surrogate"),
    ("PUT", ITEMS, {**GOOD, "value": {"a": 10**40}}, 422, "64 bits"),
    ("PUT", ITEMS, {**GOOD, "value": {"a": float("nan")}}, 422, "NaN"),
    ("PUT", ITEMS, {**GOOD, "value": [1]}, 422, "value"),
    ("PUT", ITEMS, {**GOOD, "value": None}, 422, "value"),
    ("PUT", ITEMS, {**GOOD, "ttl": 5}, 422, "body.ttl: not supported"),
    ("PUT", ITEMS, {**GOOD, "index": False}, 422, "body.index: not supported"),
    ("PUT", ITEMS, {**GOOD, "index": ["text"]}, 422, "body.index: not supported"),
    ("PUT", ITEMS, {}, 422, "namespace"),
    ("GET", f"{ITEMS}?namespace=a", None, 400, "Key is required"),
    ("GET", f"{ITEMS}?key=k", None, 400, "namespace"),
    ("GET", f"{ITEMS}?key=k&namespace=", None, 400, "namespace"),
    ("GET", f"{ITEMS}?key=k&namespace=a..b", None, 422, "empty label"),
    ("GET", f"{ITEMS}?key=k&namespace=a&namespace=b.c", None, 422, "dot"),
    ("GET", f"{ITEMS}?key=%00&namespace=a", None, 422, "NUL"),
    ("GET", f"{ITEMS}?key=k&namespace=%00", None, 422, "NUL"),
    ("GET", f"{ITEMS}?key=k&namespace=a&refresh_ttl=true", None, 422, "query.refresh_ttl: not supported"),
    ("DELETE", ITEMS, {"namespace": [], "key": "k"}, 400, "namespace"),
    ("DELETE", ITEMS, {"namespace": ["a"]}, 422, "key"),
    ("POST", SEARCH, {"limit": 0}, 422, "limit"),
    ("POST", SEARCH, {"limit": 1001}, 422, "limit"),
    ("POST", SEARCH, {"limit": "5"}, 422, "limit"),
    ("POST", SEARCH, {"offset": -1}, 422, "offset"),
    ("POST", SEARCH, {"offset": 2**62}, 422, "offset"),
    ("POST", SEARCH, {"filter": {"n": {"$near": 1}}}, 422, r"filter.n: \$near is not an operator"),
    ("POST", SEARCH, {"filter": {"n": {"$gt": {}}}}, 422, "number or a string"),
    ("POST", SEARCH, {"filter": {"\x00": 1}}, 422, "NUL"),
    ("POST", SEARCH, {"filter": [1]}, 422, "filter"),
    ("POST", SEARCH, {"namespace_prefix": [""]}, 422, "namespace_prefix"),
    ("POST", SEARCH, {"refresh_ttl": True}, 422, "body.refresh_ttl: not supported"),
    ("POST", NAMESPACES, {"prefix": ["a\x00"]}, 422, "prefix"),
    ("POST", NAMESPACES, {"suffix": ["a.b"]}, 422, "suffix"),
    ("POST", NAMESPACES, {"max_depth": 0}, 422, "max_depth"),
    ("POST", NAMESPACES, {"limit": 10**6}, 422, "limit"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "why"), BAD, ids=lambda given: repr(given)[:40])
async def test_bad_requests_are_told_apart_and_the_field_is_named(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, why: str
) -> None:
    content = None if body is None else json.dumps(body)
    answer = await client.request(method, path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert re.search(why, answer.json()["detail"])


async def test_a_filter_may_have_as_many_conditions_as_the_limit_says(client: httpx.AsyncClient) -> None:
    value = {f"k{n}": n for n in range(100)}
    await put(client, ["a"], "all", value)
    await put(client, ["a"], "almost", {**value, "k99": 0})
    assert [item["key"] for item in await search(client, filter=value)] == ["all"]


@pytest.mark.parametrize("operand", [1, "x", None, True, [1], {"a": 1}, {}, -0.0, 1e300])
@pytest.mark.parametrize("operator", [None, "$eq", "$ne"])
async def test_any_json_can_be_asked_for(client: httpx.AsyncClient, operator: str | None, operand: Any) -> None:
    await put(client, ["a"], "same", {"v": operand})
    await put(client, ["a"], "different", {"v": "another"})
    wanted = operand if operator is None else {operator: operand}
    expected = ["different"] if operator == "$ne" else ["same"]
    assert [item["key"] for item in await search(client, filter={"v": wanted})] == expected
