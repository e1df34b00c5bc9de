"""Threads over HTTP, with the official client where it has a method."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.support.thread_world import ThreadWorld, http, world

__all__ = ["http", "world"]

SURROGATE = b'{"metadata": {"a": "\\ud800"}}'


@pytest.fixture
def sdk(http: httpx.AsyncClient) -> LangGraphClient:
    return LangGraphClient(http)


async def test_a_created_thread_has_every_field(http: httpx.AsyncClient) -> None:
    made = (await http.post("/threads", json={"metadata": {"a": 1}})).json()

    assert made == (await http.get(f"/threads/{made['thread_id']}")).json()
    times = [made.pop(name) for name in ("created_at", "updated_at", "state_updated_at")]
    assert all(datetime.fromisoformat(each).utcoffset() is not None for each in times)
    del made["thread_id"]
    assert made == {
        "metadata": {"a": 1},
        "config": {},
        "status": "idle",
        "values": None,
        "interrupts": {},
        "error": None,
    }


async def test_the_sdk_creates_changes_finds_and_deletes_threads(sdk: LangGraphClient) -> None:
    thread_id = str(uuid4())
    made = await sdk.threads.create(thread_id=thread_id, metadata={"k": "v"}, graph_id="echo")
    assert made["thread_id"] == thread_id
    again = await sdk.threads.create(thread_id=thread_id, if_exists="do_nothing")
    assert again == made

    changed = await sdk.threads.update(thread_id, metadata={"more": True})
    assert changed["metadata"] == {"k": "v", "more": True, "graph_id": "echo"}
    found = await sdk.threads.search(metadata={"graph_id": "echo"}, limit=100)
    assert found == [changed]
    assert await sdk.threads.count(metadata={"k": "v"}) == 1
    await sdk.threads.copy(thread_id)
    assert await sdk.threads.count(metadata={"k": "v"}) == 2

    await sdk.threads.delete(thread_id)
    assert await sdk.threads.count() == 1


async def test_two_creates_of_one_id(http: httpx.AsyncClient) -> None:
    thread_id = str(uuid4())
    raced = await asyncio.gather(*(http.post("/threads", json={"thread_id": thread_id}) for _ in range(4)))
    assert sorted(answer.status_code for answer in raced) == [200, 409, 409, 409]

    body = {"thread_id": str(uuid4()), "if_exists": "do_nothing"}
    raced = await asyncio.gather(*(http.post("/threads", json=body) for _ in range(4)))
    assert {answer.status_code for answer in raced} == {200}
    assert len({answer.text for answer in raced}) == 1


async def test_minimal_answers_have_no_body(http: httpx.AsyncClient) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]

    for prefer, status in [("return=minimal", 204), ("respond-async, return=minimal", 204), ("return=full", 200)]:
        for path in (f"/threads/{thread_id}", f"/threads/{thread_id}/state"):
            answer = await http.patch(path, json={"metadata": {"x": prefer}}, headers={"Prefer": prefer})
            assert answer.status_code == status
            assert bool(answer.content) == (status == 200)
    assert (await http.get(f"/threads/{thread_id}")).json()["metadata"] == {"x": "return=full"}


async def test_pages_say_how_many_there_are_and_where_to_go_on(http: httpx.AsyncClient) -> None:
    for n in range(5):
        await http.post("/threads", json={"metadata": {"n": n, "group": "g"}})
    await http.post("/threads", json={})
    seen: list[int] = []
    offset: str | None = "0"
    while offset is not None:
        body = {"metadata": {"group": "g"}, "limit": 2, "offset": int(offset)}
        answer = await http.post("/threads/search", json=body)
        assert answer.headers["X-Pagination-Total"] == "5"
        seen += [row["metadata"]["n"] for row in answer.json()]
        offset = answer.headers.get("X-Pagination-Next")
    assert seen == [4, 3, 2, 1, 0]


async def test_select_and_extract_choose_what_is_sent(http: httpx.AsyncClient, world: ThreadWorld) -> None:
    thread_id = (await http.post("/threads", json={"metadata": {"graph_id": "echo"}})).json()["thread_id"]
    values = {"messages": [{"content": "hi"}, {"content": "bye"}]}
    await http.post(f"/threads/{thread_id}/state", json={"values": values})

    body: dict[str, Any] = {
        "select": ["thread_id", "status"],
        "extract": {"last": "values.messages[-1].content", "no": "values.a[0].b", "graph": "metadata.graph_id"},
    }
    [row] = (await http.post("/threads/search", json=body)).json()

    extracted = {"last": "bye", "no": None, "graph": "echo"}
    assert row == {"thread_id": thread_id, "status": "idle", "extracted": extracted}


@pytest.mark.parametrize(
    "extract",
    [
        {"a": "status"},
        {"a": "valuesx.b"},
        {"a": "values..b"},
        {"a": "values[x]"},
        {"a": "values[99999999999999999999]"},
        {"a": "values.b\0"},
        {"a": ""},
        {"not an identifier": "values"},
        {"thread_id": "values"},
        {f"a{n}": "values" for n in range(11)},
        {"a": 1},
        "values",
    ],
)
async def test_an_extract_that_makes_no_sense_is_invalid(http: httpx.AsyncClient, extract: object) -> None:
    answer = await http.post("/threads/search", json={"extract": extract})
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


async def test_an_extract_from_elsewhere_says_where_paths_start(http: httpx.AsyncClient) -> None:
    answer = await http.post("/threads/search", json={"extract": {"a": "status"}})
    expected = "Extract path 'status' must start with one of: config, interrupts, metadata, values"
    assert answer.json() == {"detail": expected}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/threads", {"ttl": 5}, "body.ttl"),
        ("/threads/{id}", {"ttl": {"ttl": 1}}, "body.ttl"),
        ("/threads/{id}", {"values": {}}, "body.values"),
        ("/threads/{id}", {"messages": []}, "body.messages"),
        ("/threads/{id}", {"checkpoint": {}}, "body.checkpoint"),
    ],
)
async def test_what_this_version_does_not_do_is_refused_by_name(
    http: httpx.AsyncClient, path: str, body: object, field: str
) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    method = "PATCH" if "{id}" in path else "POST"
    answer = await http.request(method, path.format(id=thread_id), json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"{field}: not supported")


async def test_ttl_in_the_query_is_refused_by_name(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"/threads/{uuid4()}", params={"include": "ttl"})
    assert answer.status_code == 422
    assert "ttl" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads", {"metadata": {"a": "\0"}}),
        ("/threads", {"metadata": {"\0": 1}}),
        ("/threads", {"metadata": {"a": [{"b": ["x\0y"]}]}}),
        ("/threads", {"metadata": {"a": 2**70}}),
        ("/threads", {"metadata": []}),
        ("/threads", {"metadata": "x"}),
        ("/threads", {"thread_id": "x"}),
        ("/threads", {"thread_id": 1}),
        ("/threads", {"if_exists": "maybe"}),
        ("/threads", {"supersteps": [{"updates": []}]}),
        ("/threads", {"supersteps": [{"updates": [{"values": 1}]}]}),
        ("/threads", {"supersteps": {"a": 1}}),
        ("/threads", []),
        ("/threads", None),
        ("/threads/search", {"limit": 0}),
        ("/threads/search", {"limit": 1001}),
        ("/threads/search", {"limit": "1"}),
        ("/threads/search", {"limit": True}),
        ("/threads/search", {"offset": -1}),
        ("/threads/search", {"offset": 2**80}),
        ("/threads/search", {"select": ["nope"]}),
        ("/threads/search", {"select": "thread_id"}),
        ("/threads/search", {"sort_by": "error"}),
        ("/threads/search", {"sort_order": "up"}),
        ("/threads/search", {"status": "sleeping"}),
        ("/threads/search", {"ids": ["x"]}),
        ("/threads/search", {"ids": "x"}),
        ("/threads/search", {"values": {"a": "\0"}}),
        ("/threads/count", {"metadata": {"a": "\0"}}),
        ("/threads/count", {"status": 1}),
    ],
)
async def test_bad_bodies_are_invalid(http: httpx.AsyncClient, path: str, body: object) -> None:
    answer = await http.post(path, json=body)
    assert answer.status_code == 422, answer.text
    assert isinstance(answer.json()["detail"], str)


async def test_a_lone_surrogate_in_metadata_is_invalid(http: httpx.AsyncClient) -> None:
    answer = await http.post("/threads", content=SURROGATE, headers={"content-type": "application/json"})
    assert answer.status_code == 422


async def test_text_that_only_looks_like_nul_is_kept(http: httpx.AsyncClient) -> None:
    metadata = {"a": "\\u0000", "b": "c:\\users\\u0000x"}
    assert (await http.post("/threads", json={"metadata": metadata})).json()["metadata"] == metadata


async def test_null_and_unknown_fields_count_as_absent(http: httpx.AsyncClient) -> None:
    body = {"thread_id": None, "metadata": None, "if_exists": None, "ttl": None, "stream_mode": "x"}
    assert (await http.post("/threads", json=body)).status_code == 200
    answer = await http.post("/threads/search", json={"metadata": None, "select": None, "limit": None, "x": 1})
    assert len(answer.json()) == 1


@pytest.mark.parametrize("thread_id", ["x", "1", "019ab" * 20, "null"])
async def test_an_id_that_is_no_uuid_is_invalid(http: httpx.AsyncClient, thread_id: str) -> None:
    for method, path in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/copy"), ("GET", "/state")]:
        answer = await http.request(method, f"/threads/{thread_id}{path}", json={} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()) == (422, {"detail": "Invalid thread ID: must be a UUID"})


async def test_an_id_with_nul_is_invalid(http: httpx.AsyncClient) -> None:
    answer = await http.get("/threads/%00")
    assert (answer.status_code, answer.json()) == (
        422,
        {"detail": "NUL characters are not allowed in a path or a query"},
    )


async def test_an_unknown_thread_is_not_found(http: httpx.AsyncClient) -> None:
    thread_id = uuid4()
    calls: list[tuple[str, str, object]] = [
        ("GET", "", None),
        ("PATCH", "", {}),
        ("DELETE", "", None),
        ("POST", "/copy", None),
        ("GET", "/state", None),
        ("GET", f"/state/{uuid4()}", None),
        ("POST", "/state/checkpoint", {"checkpoint": {}}),
        ("POST", "/state", {"values": {}}),
        ("PATCH", "/state", {"metadata": {}}),
        ("GET", "/history", None),
        ("POST", "/history", {}),
    ]
    for method, path, body in calls:
        answer = await http.request(method, f"/threads/{thread_id}{path}", json=body)
        assert (answer.status_code, answer.json()) == (404, {"detail": f"Thread with ID {thread_id} not found"})


async def test_metadata_comes_back_as_it_was_sent(http: httpx.AsyncClient) -> None:
    metadata = {"π": [1, 2.5, -0.0, None, True, '\n\t"\\'], "deep": {"er": {"est": []}}, "": "", "big": 2**62}
    made = (await http.post("/threads", json={"metadata": metadata})).json()
    assert made["metadata"] == json.loads(json.dumps(metadata))
