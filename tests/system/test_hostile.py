"""Bad input gets a clear error, never a 5xx, and loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.server import Server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        yield client


def detail(answer: httpx.Response) -> str:
    """The error text; fails unless the body has the one shape that errors have."""
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert isinstance(body["detail"], str)
    assert "Traceback" not in answer.text
    return str(body["detail"])


NOWHERE = "01890000-0000-7000-8000-000000000000"

BODY_ROUTES = [
    ("POST", "/assistants"),
    ("POST", "/assistants/search"),
    ("POST", "/assistants/count"),
    ("POST", "/threads"),
    ("POST", "/threads/search"),
    ("POST", "/threads/count"),
    ("POST", "/runs"),
    ("POST", "/runs/stream"),
    ("POST", "/runs/wait"),
    ("POST", "/runs/batch"),
    ("POST", "/runs/cancel"),
    ("PUT", "/store/items"),
    ("POST", "/store/items/search"),
    ("POST", "/store/namespaces"),
    ("POST", f"/threads/{NOWHERE}/runs"),
    ("POST", f"/threads/{NOWHERE}/runs/wait"),
    ("POST", f"/threads/{NOWHERE}/runs/stream"),
    ("POST", f"/threads/{NOWHERE}/state"),
    ("POST", f"/threads/{NOWHERE}/history"),
]

BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b'"text"',
    b"42",
    b"null",
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b'{"metadata": {"n": 123456789012345678901234567890}}',
    b'{"metadata": "\\ud800"}',
    b"\xff\xfe\x00",
    b'{"metadata": {"a\\u0000b": 1}, "assistant_id": "line", "graph_id": "line", "namespace": ["a"], "key": "k"}',
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b"[" * 100_000,
]


@pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
async def test_no_body_breaks_a_route(http: httpx.AsyncClient, method: str, path: str) -> None:
    for body in BAD_BODIES:
        answer = await http.request(method, path, content=body)
        assert answer.status_code < 500, (body[:60], answer.text)
        if answer.status_code >= 400:
            detail(answer)


@pytest.mark.parametrize("bad", ["x", "1", "%00", "..%2F..", "a" * 5000, "ÿ", "00000000-0000-0000-0000-00000000000g"])
@pytest.mark.parametrize(
    "path",
    [
        "/threads/{}",
        "/threads/{}/state",
        "/threads/{}/history",
        "/threads/{}/runs",
        "/assistants/{}",
        "/assistants/{}/graph",
        "/assistants/{}/schemas",
        f"/threads/{NOWHERE}/runs/{{}}",
        f"/threads/{NOWHERE}/runs/{{}}/join",
        f"/threads/{NOWHERE}/runs/{{}}/stream",
        f"/threads/{NOWHERE}/state/{{}}",
    ],
)
async def test_an_id_that_is_none_is_a_client_error(http: httpx.AsyncClient, path: str, bad: str) -> None:
    answer = await http.get(path.format(bad))
    assert 400 <= answer.status_code < 500
    detail(answer)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"stream_mode": "nonsense"}, "stream_mode"),
        ({"config": {"tags": "not a list"}}, "config.tags"),
        ({"multitask_strategy": "fight"}, "multitask_strategy"),
        ({"webhook": "https://example.com"}, "webhook"),
        ({"after_seconds": "soon"}, "after_seconds"),
        ({"durability": "forever"}, "durability"),
        ({"metadata": []}, "metadata"),
        ({"interrupt_before": 7}, "interrupt_before"),
        ({"config": {"recursion_limit": "x"}}, "recursion_limit"),
    ],
)
async def test_a_refusal_names_the_field(http: httpx.AsyncClient, changes: dict[str, Any], field: str) -> None:
    answer = await http.post("/runs", json={"assistant_id": "line", "input": {}} | changes)
    assert answer.status_code == 422
    assert field in detail(answer)


async def test_null_counts_as_absent_and_unknown_fields_are_ignored(http: httpx.AsyncClient) -> None:
    body: Any = {
        "assistant_id": "line",
        "input": {},
        "webhook": None,
        "config": None,
        "no_such_field": 1,
        "metadata": None,
    }
    assert (await http.post("/runs/wait", json=body)).json() == {"log": ["one", "two"]}


async def test_a_body_over_the_limit_is_refused_while_it_is_read(http: httpx.AsyncClient) -> None:
    part = b" " * 1_000_000

    async def endless() -> AsyncIterator[bytes]:
        yield b'{"metadata": {"a": "'
        for _ in range(40):
            yield part

    chunked = await http.post("/threads", content=endless())
    assert chunked.status_code == 413
    told = await http.post("/threads", content=b" " * (40 * 2**20))
    assert told.status_code == 413
    assert (await http.get("/ok")).status_code == 200


async def test_json_sent_as_plain_text_is_json(http: httpx.AsyncClient) -> None:
    answer = await http.post("/threads", content=b'{"metadata": {"a": 1}}', headers={"content-type": "text/plain"})
    assert answer.json()["metadata"] == {"a": 1}


async def test_nul_in_the_input_is_kept_in_the_checkpoint_and_shown_as_a_replacement(http: httpx.AsyncClient) -> None:
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "echo", "input": {"value": "a\0b"}}
    assert (await http.post(f"/threads/{thread}/runs/wait", json=body)).json()["log"] == ["a�b"]
    assert (await http.get(f"/threads/{thread}")).json()["values"]["log"] == ["a�b"]


async def test_unknown_routes_and_methods_have_our_own_error_body(http: httpx.AsyncClient) -> None:
    assert (await http.get("/nowhere")).json() == {"detail": "Not Found"}
    wrong = await http.delete("/threads")
    assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})


async def test_a_trailing_slash_is_the_same_path(http: httpx.AsyncClient) -> None:
    assert (await http.post("/threads/", json={})).status_code == 200


async def test_foreign_pages_and_foreign_names_are_refused_before_any_work(http: httpx.AsyncClient) -> None:
    evil = await http.post("/threads", json={}, headers={"origin": "https://evil.example"})
    assert evil.status_code == 403
    rebound = await http.post("/threads", json={}, headers={"host": "evil.example"})
    assert rebound.status_code == 421
    for origin in ("http://localhost:3000", "https://smith.langchain.com", "http://127.0.0.1:5173"):
        assert (await http.post("/threads", json={}, headers={"origin": origin})).status_code == 200


async def test_a_private_network_preflight_is_answered(http: httpx.AsyncClient) -> None:
    answer = await http.options(
        "/threads",
        headers={
            "origin": "https://smith.langchain.com",
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "content-type,x-api-key,x-auth-scheme",
            "access-control-request-private-network": "true",
        },
    )
    assert answer.status_code in (200, 204)
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert answer.headers["access-control-allow-origin"] == "https://smith.langchain.com"


async def test_browsers_may_read_the_headers_that_clients_need(http: httpx.AsyncClient) -> None:
    answer = await http.post("/threads/search", json={}, headers={"origin": "http://localhost:3000"})
    exposed = answer.headers["access-control-expose-headers"].lower()
    for name in ("content-location", "location", "x-pagination-total", "x-pagination-next"):
        assert name in exposed


async def test_the_reason_of_an_error_is_readable_for_a_browser(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"/threads/{uuid4()}", headers={"origin": "http://localhost:3000"})
    assert answer.status_code == 404
    assert "access-control-allow-origin" in answer.headers


async def test_a_request_id_is_given_back_or_made(http: httpx.AsyncClient) -> None:
    assert (await http.get("/ok", headers={"x-request-id": "mine-1"})).headers["x-request-id"] == "mine-1"
    assert (await http.get("/ok")).headers["x-request-id"]
    hostile = await http.get("/ok", headers={"x-request-id": "a" * 10_000})
    assert len(hostile.headers["x-request-id"]) <= 200


async def test_a_storm_of_broken_connections_leaves_the_server_well(server: Server, http: httpx.AsyncClient) -> None:
    async def rude(payload: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(payload)
        await writer.drain()
        writer.close()

    head = b"POST /runs/stream HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n"
    await asyncio.gather(*(rude(payload) for payload in [head, b"\0\1\2", b"GET", head[:30]] * 25))
    assert (await http.post("/runs/wait", json={"assistant_id": "line", "input": {}})).json() == {"log": ["one", "two"]}
