"""The long-term store through the official SDK and on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import LangGraphClient

from tests.support.server import Server


@pytest.fixture
def root() -> str:
    """A namespace of this test alone."""
    return f"ns{uuid4().hex}"


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        yield http


async def keys(client: LangGraphClient, *namespace: str, **asked: Any) -> list[str]:
    found = await client.store.search_items(namespace, **asked)
    return [item["key"] for item in found["items"]]


async def test_an_item_is_written_read_changed_and_deleted(client: LangGraphClient, root: str) -> None:
    await client.store.put_item([root, "notes"], "k", {"text": "one"})
    first = await client.store.get_item([root, "notes"], "k")
    assert (first["namespace"], first["key"], first["value"]) == ([root, "notes"], "k", {"text": "one"})
    await client.store.put_item([root, "notes"], "k", {"other": [1, None, 2.5, "ü"]})
    second = await client.store.get_item([root, "notes"], "k")
    assert second["value"] == {"other": [1, None, 2.5, "ü"]}  # replaced, not merged
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] > first["updated_at"]
    await client.store.delete_item([root, "notes"], "k")
    await client.store.delete_item([root, "notes"], "k")
    assert await client.store.get_item([root, "notes"], "k") is None


async def test_a_namespace_query_is_dotted_or_repeated(http: httpx.AsyncClient, root: str) -> None:
    item = {"namespace": [root, "a", "b"], "key": "k", "value": {}}
    assert (await http.put("/store/items", json=item)).status_code == 204
    dotted = await http.get(f"/store/items?namespace={root}.a.b&key=k")
    repeated = await http.get(f"/store/items?namespace={root}&namespace=a&namespace=b&key=k")
    assert dotted.json()["namespace"] == [root, "a", "b"]
    assert repeated.json() == dotted.json()


async def test_searches_go_by_prefix_filter_and_page(client: LangGraphClient, root: str) -> None:
    for number in range(5):
        value = {"n": number, "kind": "even" if number % 2 == 0 else "odd", "deep": {"x": number}}
        await client.store.put_item([root, str(number % 2)], f"k{number}", value)
    assert await keys(client, root) == ["k4", "k3", "k2", "k1", "k0"]  # the last change first
    assert await keys(client, root, "0") == ["k4", "k2", "k0"]
    assert await keys(client, root, limit=2, offset=1) == ["k3", "k2"]
    assert await keys(client, root, filter={"kind": "odd"}) == ["k3", "k1"]
    assert await keys(client, root, filter={"n": {"$gte": 1, "$lt": 3}}) == ["k2", "k1"]
    assert await keys(client, root, filter={"n": {"$gt": 3}}) == ["k4"]
    assert await keys(client, root, filter={"n": {"$lte": 0}}) == ["k0"]
    assert await keys(client, root, filter={"kind": {"$ne": "odd"}, "n": {"$eq": 2}}) == ["k2"]
    assert await keys(client, root, filter={"deep": {"x": 3}}) == ["k3"]
    assert await keys(client, root, filter={"none": 1}) == []
    assert await keys(client, root, query="anything") == ["k4", "k3", "k2", "k1", "k0"]  # no index: by change
    found = await client.store.search_items([root], limit=1)
    assert found["items"][0]["score"] is None
    assert await keys(client, root[:-1]) == []  # labels are whole


async def test_namespaces_are_listed_by_prefix_suffix_and_depth(client: LangGraphClient, root: str) -> None:
    for path in (["a", "x"], ["a", "y"], ["b", "x"], ["b"]):
        await client.store.put_item([root, *path], "k", {})

    async def listed(**asked: Any) -> list[list[str]]:
        found = await client.store.list_namespaces(prefix=[root], **asked)
        return sorted(each[1:] for each in found["namespaces"])

    assert await listed() == [["a", "x"], ["a", "y"], ["b"], ["b", "x"]]
    assert await listed(suffix=["x"]) == [["a", "x"], ["b", "x"]]
    assert await listed(max_depth=2) == [["a"], ["b"]]
    assert len(await listed(limit=3)) == 3
    assert len(await listed(limit=3, offset=3)) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/store/items", {"namespace": [], "key": "k", "value": {}}, 400),
        ("PUT", "/store/items", {"namespace": ["langgraph", "a"], "key": "k", "value": {}}, 400),
        ("PUT", "/store/items", {"namespace": ["a", ""], "key": "k", "value": {}}, 422),
        ("PUT", "/store/items", {"namespace": ["a.b"], "key": "k", "value": {}}, 422),
        ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": "text"}, 422),
        ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {}, "ttl": 5}, 422),
        ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {}, "index": ["x"]}, 422),
        ("GET", "/store/items?namespace=a", None, 400),
        ("POST", "/store/items/search", {"limit": -1}, 422),
        ("POST", "/store/items/search", {"filter": {"a": {"$like": "x"}}}, 422),
    ],
)
async def test_what_cannot_be_is_refused_in_one_shape(
    http: httpx.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    answer = await http.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["detail"], str)


async def test_an_empty_prefix_searches_everything(http: httpx.AsyncClient, root: str) -> None:
    await http.put("/store/items", json={"namespace": [root], "key": "k", "value": {"mark": root}})
    for body in ({"filter": {"mark": root}}, {"namespace_prefix": [], "filter": {"mark": root}}):
        found = (await http.post("/store/items/search", json=body)).json()
        assert [item["namespace"] for item in found["items"]] == [[root]]


async def test_writers_at_once_leave_one_whole_item(client: LangGraphClient, root: str) -> None:
    await asyncio.gather(*(client.store.put_item([root], "k", {"n": n, "again": n}) for n in range(30)))
    value = (await client.store.get_item([root], "k"))["value"]
    assert value["n"] == value["again"]
    assert await keys(client, root) == ["k"]


def test_the_synchronous_client_uses_the_same_store(server: Server, root: str) -> None:
    with get_sync_client(url=server.url, api_key=None) as client:
        client.store.put_item([root], "k", {"by": "sync"})
        assert client.store.search_items([root])["items"][0]["value"] == {"by": "sync"}
        assert client.store.list_namespaces(prefix=[root])["namespaces"] == [[root]]
