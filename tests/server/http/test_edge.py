"""Who may call, from where, and what every answer carries."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from heddle_core.domain.errors import Unavailable
from heddle_server.http.options import HttpOptions
from tests.server.http.test_runs import body
from tests.server.http.world import World, serving

STUDIO = "https://smith.langchain.com"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:2024", 200),
        ("127.0.0.1", 200),
        ("127.9.9.9:80", 200),
        ("[::1]:2024", 200),
        ("app.localhost", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:2024", 421),
        ("192.168.1.7", 421),
        ("[::", 421),
        ("", 421),
    ],
)
async def test_only_loopback_hosts_are_answered(world: World, host: str, status: int) -> None:
    answer = await world.client.get("/ok", headers={"host": host})
    assert answer.status_code == status
    assert status == 200 or "ALLOWED_HOSTS" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("https://127.0.0.1", 200),
        ("http://[::1]:5173", 200),
        (STUDIO, 200),
        ("https://evil.example", 403),
        ("null", 403),
        ("https://smith.langchain.com.evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("http://[", 403),
    ],
)
async def test_only_trusted_pages_may_call(world: World, origin: str, status: int) -> None:
    answer = await world.client.post("/runs", json=body(), headers={"origin": origin})
    assert answer.status_code == status
    assert world.rows.rows if status == 200 else not world.rows.rows


async def test_listed_hosts_and_origins_may_call_too() -> None:
    options = HttpOptions(allow_hosts=frozenset({"heddle.example"}), allow_origins=frozenset({"https://app.example"}))
    async with serving(options) as world:
        for origin, status in (
            ("https://app.example", 200),
            ("https://heddle.example", 200),
            ("https://other.example", 403),
        ):
            answer = await world.client.get("/ok", headers={"host": "heddle.example", "origin": origin})
            assert answer.status_code == status


async def test_with_an_auth_handler_every_host_and_origin_is_answered() -> None:
    async with serving(HttpOptions(authenticated=True)) as world:
        answer = await world.client.get("/ok", headers={"host": "x.example", "origin": "https://evil.example"})
        assert answer.status_code == 200


async def test_a_preflight_from_studio_to_this_private_server_is_granted(world: World) -> None:
    answer = await world.client.options(
        "/threads/search",
        headers={
            "origin": STUDIO,
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "content-type, x-auth-scheme",
            "access-control-request-private-network": "true",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == STUDIO
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "content-type, x-auth-scheme"
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ok", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/ok", 405),
        ("POST", "/runs", 422),
        ("GET", "/threads/x/runs", 422),
    ],
)
async def test_answers_and_errors_carry_cross_origin_headers(world: World, method: str, path: str, status: int) -> None:
    answer = await world.client.request(method, path, headers={"origin": STUDIO})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == STUDIO
    assert answer.headers["vary"] == "Origin"
    for name in (
        "content-location",
        "location",
        "x-pagination-total",
        "x-pagination-next",
        "x-request-id",
        "retry-after",
    ):
        assert name in answer.headers["access-control-expose-headers"]
    assert (await world.client.request(method, path)).headers["vary"] == "Origin"


async def test_unknown_paths_and_methods_answer_json(world: World) -> None:
    missing = await world.client.get("/nowhere")
    wrong = await world.client.delete("/runs")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
    assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})
    assert wrong.headers["allow"] == "POST"


async def test_a_trailing_slash_is_the_same_path(world: World) -> None:
    answer = await world.client.post("/runs/", json=body())
    assert answer.status_code == 200


async def test_a_request_id_is_kept_or_made(world: World) -> None:
    kept = await world.client.get("/ok", headers={"x-request-id": "trace-1:a/b"})
    made = await world.client.get("/ok")
    hostile = await world.client.get("/ok", headers={"x-request-id": "a b\t<script>"})
    assert kept.headers["x-request-id"] == "trace-1:a/b"
    for answer in (made, hostile):
        assert UUID(answer.headers["x-request-id"]).version == 4


async def test_writes_are_logged_with_fields_and_reads_are_silent(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await world.client.get("/ok")
    await world.client.post("/runs", json=body(), headers={"x-request-id": "r1"})
    [line] = [r for r in caplog.records if r.message == "request"]
    assert (line.__dict__["method"], line.__dict__["path"]) == ("POST", "/runs")
    assert line.__dict__["status"] == 200
    assert line.__dict__["duration_ms"] > 0


@pytest.mark.parametrize("production", [True, False])
async def test_an_unexpected_error_is_a_plain_500_and_the_connection_lives(
    production: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(HttpOptions(production=production)) as world:
        world.rows.failure = RuntimeError("secret")
        answer = await world.client.get("/ok?check_db=1", headers={"origin": STUDIO})
        assert answer.status_code == 500
        text = answer.json()["detail"]
        assert text == "Internal Server Error" if production else text.endswith("RuntimeError: secret")
        assert answer.headers["access-control-allow-origin"] == STUDIO
        assert (await world.client.get("/ok")).status_code == 200
        [record] = [r for r in caplog.records if r.message == "request_failed"]
        assert record.exc_info is not None


async def test_a_database_that_is_away_is_503_with_retry_after(world: World) -> None:
    world.rows.failure = Unavailable("the database does not answer")
    for answer in (await world.client.get("/ok?check_db=true"), await world.client.post("/runs", json=body())):
        assert (answer.status_code, answer.json()) == (503, {"detail": "the database does not answer"})
        assert answer.headers["retry-after"] == "1"
    assert (await world.client.get("/ok")).json() == {"ok": True}


async def test_what_the_server_needs_is_started_before_the_first_request_and_stopped_after_the_last() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        seen.append("started")
        yield
        seen.append("stopped")

    async with serving(HttpOptions(lifespan=lifespan)) as world:
        await world.client.get("/ok")
        assert seen == ["started"]
    assert seen == ["started", "stopped"]
