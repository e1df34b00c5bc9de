"""What a request body may hold, and what a client is told when it holds something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from heddle_core.domain.errors import InvalidRequest
from heddle_server.http.body import parse
from heddle_server.http.options import HttpOptions
from tests.server.http.test_runs import body
from tests.server.http.world import World, serving


async def send(world: World, raw: bytes, kind: str | None = "application/json") -> tuple[int, str]:
    headers = {"content-type": kind} if kind else {}
    answer = await world.client.post(f"/threads/{world.a_thread()}/runs", content=raw, headers=headers)
    return answer.status_code, answer.json().get("detail", "")


@pytest.mark.parametrize(
    "kind", ["text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "", None, "nonsense"]
)
async def test_a_body_is_json_whatever_its_content_type_says(world: World, kind: str | None) -> None:
    assert await send(world, b'{"assistant_id": "agent"}', kind) == (200, "")


@pytest.mark.parametrize("raw", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b"[1,]", b'{"a": "\x01"}', b'{"a": 1} x'])
async def test_a_missing_or_malformed_body_is_422(world: World, raw: bytes) -> None:
    assert await send(world, raw) == (422, "Invalid JSON in request body")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"NaN", "NaN is not a JSON number"),
        (b"-Infinity", "-Infinity is not a JSON number"),
        (b"1e999", "a number is too large"),
        (b"18446744073709551616", "does not fit into 64 bits"),
        (b"-9223372036854775809", "does not fit into 64 bits"),
        (b"1" * 5000, "does not fit into 64 bits"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' is given twice"),
        (b"[" * 201 + b"]" * 201, "nested deeper than 200 levels"),
        (b"[" * 100_000, "nested deeper than 200 levels"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested deeper than 200 levels"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
async def test_json_that_nobody_could_store_is_422_and_says_why(world: World, value: bytes, problem: str) -> None:
    status, detail = await send(world, b'{"assistant_id": "agent", "input": ' + value + b"}")
    assert status == 422
    assert detail.startswith("Invalid JSON in request body")
    if value.endswith((b"]", b"}")) or not value.startswith(b"["):
        assert problem in detail


@pytest.mark.parametrize(
    "raw",
    [
        b"18446744073709551615",
        b"-9223372036854775808",
        b'"12345678901234567890123"',
        b"1.5e300",
        b"[" * 150 + b"]" * 150,
        b"[[],[]]" * 0 + b"[" + b",".join([b"{}"] * 1000) + b"]",
        '"\\ud83d\\ude00 é"'.encode(),
    ],
)
def test_json_at_the_bounds_is_accepted(raw: bytes) -> None:
    parse(raw)


def test_two_hundred_levels_are_allowed_and_one_more_is_not() -> None:
    parse(b"[" * 200 + b"]" * 200)
    with pytest.raises(InvalidRequest, match="200 levels"):
        parse(b"[" * 201 + b"]" * 201)


@pytest.mark.parametrize(
    "fields", [{"input": {"a": "x\0y"}}, {"command": {"resume": "\0"}}, {"context": {"a": ["\0"]}}]
)
async def test_nul_is_kept_in_the_data_of_the_graph(world: World, fields: dict[str, Any]) -> None:
    answer = await world.client.post(f"/threads/{world.a_thread()}/runs", json=body(**fields))
    assert answer.status_code == 200
    kwargs = (await world.next_run()).claim.kwargs
    kept = {"input": kwargs.input, "command": kwargs.command, "context": {"a": ["\0"]}}
    assert {name: kept[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"input": {"a\0": 1}}, "body.input.a\\u0000"),
        ({"metadata": {"a": "\0"}}, "body.metadata.a"),
        ({"config": {"configurable": {"a": ["\0"]}}}, "body.config.configurable.a[0]"),
        ({"assistant_id": "a\0"}, "body.assistant_id"),
    ],
)
async def test_nul_is_refused_in_keys_ids_and_metadata(world: World, fields: dict[str, Any], where: str) -> None:
    answer = await world.client.post(f"/threads/{world.a_thread()}/runs", json=body(**fields))
    assert (answer.status_code, answer.json()["detail"]) == (422, f"{where}: NUL characters are not allowed here")


async def test_nul_is_refused_in_each_run_of_a_batch_and_in_queries(world: World) -> None:
    good = await world.client.post("/runs/batch", json=[body(input="\0")])
    bad = await world.client.post("/runs/batch", json=[body(), body(metadata={"input": "\0"})])
    query = await world.client.get("/metrics?format=%00")
    path = await world.client.get("/threads/%00/runs")
    assert [a.status_code for a in (good, bad, query, path)] == [200, 422, 422, 422]
    assert bad.json()["detail"].startswith("body[1].metadata.input: ")


async def test_a_body_over_the_limit_is_413_announced_or_chunked() -> None:
    async with serving(HttpOptions(max_body_bytes=10_000)) as world:
        path = f"/threads/{world.a_thread()}/runs"

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b" " * 1000

        for content in (b" " * 20_000, chunks()):
            answer = await world.client.post(path, content=content)
            assert (answer.status_code, answer.json()) == (413, {"detail": "Request body is too large"})
        assert (await world.client.post(path, json=body())).status_code == 200


async def test_a_large_body_is_read_whole(world: World) -> None:
    answer = await world.client.post(f"/threads/{world.a_thread()}/runs", json=body(input="x" * 2_000_000))
    assert answer.status_code == 200
    assert len((await world.next_run()).claim.kwargs.input) == 2_000_000


async def test_a_client_that_leaves_while_sending_its_body_is_no_error(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    assert (await world.client.get("/ok")).status_code == 200
    assert [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")] == []
