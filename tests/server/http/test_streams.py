"""Server-sent events: frames, order, resuming, filters, heartbeats and clients that leave."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from uuid import uuid4

import httpx
import pytest

from heddle_core.domain.events import StreamMode
from heddle_core.domain.ids import ThreadId
from heddle_core.domain.run import CancelAction, RunStatus
from heddle_core.memory.event_log import Bounds
from heddle_server.http.options import HttpOptions
from tests.server.http.test_runs import body
from tests.server.http.world import Playing, World, frames, serving, until


async def started(world: World, **fields: object) -> Playing:
    await world.client.post(f"/threads/{world.a_thread()}/runs", json=body(**fields))
    return await world.next_run()


def stream_of(run: Playing) -> str:
    return f"/threads/{run.thread_id}/runs/{run.run_id}/stream"


async def test_a_stream_has_the_headers_and_the_frames_that_clients_parse(world: World) -> None:
    thread = world.a_thread()
    request = asyncio.create_task(world.client.post(f"/threads/{thread}/runs/stream", json=body()))
    run = await world.next_run()
    run.say("values", {"n": 1}, StreamMode.VALUES)
    run.say("updates|sub:1", {"a": {"n": 2}}, StreamMode.UPDATES)
    run.end({})
    answer = await request

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["content-location"] == f"/threads/{thread}/runs/{run.run_id}"
    assert answer.headers["location"] == f"/threads/{thread}/runs/{run.run_id}/stream"
    assert answer.text == (
        f'event: metadata\r\ndata: {{"run_id":"{run.run_id}","attempt":1}}\r\n\r\n'
        'event: values\r\ndata: {"n":1}\r\n\r\n'
        'event: updates|sub:1\r\ndata: {"a":{"n":2}}\r\n\r\n'
    )


async def test_metadata_arrives_before_the_graph_does_anything(world: World) -> None:
    async with world.client.stream("POST", f"/threads/{world.a_thread()}/runs/stream", json=body()) as answer:
        run = await world.next_run()
        first = await anext(answer.aiter_text())
        assert frames(first)[0].event == "metadata"
        run.end({})


async def test_what_is_ready_together_leaves_in_one_write(world: World) -> None:
    async with world.client.stream("POST", f"/threads/{world.a_thread()}/runs/stream", json=body()) as answer:
        run = await world.next_run()
        chunks = answer.aiter_raw()
        await anext(chunks)
        for n in range(20):
            run.say("custom", n, StreamMode.CUSTOM)
        assert [f.data for f in frames((await anext(chunks)).decode())] == list(range(20))
        run.end({})


async def test_a_name_cannot_break_out_of_its_line(world: World) -> None:
    run = await started(world, stream_resumable=True)
    run.say("values|a\r\ndata: x", 1, StreamMode.VALUES)
    run.end({})
    answer = await world.client.get(stream_of(run), headers={"last-event-id": "-1"})
    assert [f.event for f in frames(answer.text)] == ["metadata", "values|a  data: x"]


async def test_only_resumable_runs_have_ids_and_a_reader_goes_on_exactly_where_it_stopped(world: World) -> None:
    run = await started(world, stream_resumable=True)
    for n in range(5):
        run.say("custom", n, StreamMode.CUSTOM)
    run.say("error", {"error": "ValueError", "message": "boom"})
    run.end({}, RunStatus.ERROR)

    everything = frames((await world.client.get(stream_of(run), headers={"last-event-id": "-1"})).text)
    assert [f.event for f in everything] == ["metadata", *["custom"] * 5, "error"]
    assert all(f.id for f in everything)

    third = everything[3]
    rest = await world.client.get(stream_of(run), headers={"last-event-id": third.id or ""})
    assert [f.data for f in frames(rest.text)] == [f.data for f in everything[4:]]


@pytest.mark.parametrize("junk", ["-1", "junk", "0", "99999999999999999999999999999999999999999-1", "1-x"])
async def test_a_strange_last_event_id_replays_everything(world: World, junk: str) -> None:
    run = await started(world, stream_resumable=True)
    run.say("custom", 1, StreamMode.CUSTOM)
    run.end({})
    answer = await world.client.get(stream_of(run), headers={"last-event-id": junk})
    assert [f.event for f in frames(answer.text)] == ["metadata", "custom"]


async def test_without_a_last_event_id_a_finished_run_is_an_empty_stream(world: World) -> None:
    run = await started(world, stream_resumable=True)
    run.say("custom", 1, StreamMode.CUSTOM)
    run.end({})
    answer = await world.client.get(stream_of(run))
    assert (answer.status_code, answer.text) == (200, "")


@pytest.mark.parametrize(
    "query",
    [
        "stream_mode=custom",
        "stream_mode=values,custom",
        'stream_mode=["custom"]',
        "stream_mode=tasks&stream_mode=custom",
    ],
)
async def test_a_filter_in_any_form_keeps_metadata_and_error(world: World, query: str) -> None:
    run = await started(world, stream_resumable=True)
    run.say("custom", 1, StreamMode.CUSTOM)
    run.say("updates", 1, StreamMode.UPDATES)
    run.say("error", {"error": "E", "message": "m"})
    run.end({}, RunStatus.ERROR)
    answer = await world.client.get(f"{stream_of(run)}?{query}", headers={"last-event-id": "-1"})
    assert [f.event for f in frames(answer.text)] == ["metadata", "custom", "error"]


@pytest.mark.parametrize("query", ["stream_mode=colours", "stream_mode=[1]", "stream_mode=["])
async def test_an_unknown_mode_is_422(world: World, query: str) -> None:
    run = await started(world)
    answer = await world.client.get(f"{stream_of(run)}?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("query.stream_mode: ")


async def test_an_unknown_run_is_404_before_the_stream_starts(world: World) -> None:
    for path in (f"/threads/{world.a_thread()}/runs/{uuid4()}/stream", f"/runs/{uuid4()}/stream"):
        answer = await world.client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/json"


async def test_a_stateless_stream_names_a_path_where_it_goes_on(world: World) -> None:
    request = asyncio.create_task(world.client.post("/runs/stream", json=body(stream_resumable=True)))
    run = await world.next_run()
    run.say("values", 1, StreamMode.VALUES)
    run.end(1)
    answer = await request
    assert answer.headers["content-location"] == f"/runs/{run.run_id}"
    again = await world.client.get(answer.headers["location"], headers={"last-event-id": "-1"})
    assert again.text == answer.text
    assert again.headers["location"] == answer.headers["location"]


async def test_many_readers_each_see_every_event(world: World) -> None:
    run = await started(world)
    async with AsyncExitStack() as stack:
        answers = [await stack.enter_async_context(world.client.stream("GET", stream_of(run))) for _ in range(20)]
        for n in range(50):
            run.say("custom", n, StreamMode.CUSTOM)
            await asyncio.sleep(0)
        run.end({})
        for answer in answers:
            opening, *rest = frames((await answer.aread()).decode())
            assert opening.event == "metadata"
            assert [f.data for f in rest] == list(range(50))


async def test_heartbeats_come_steadily_on_quiet_and_on_busy_streams() -> None:
    async with serving(HttpOptions(heartbeat_seconds=0.05)) as world:
        async with world.client.stream("POST", f"/threads/{world.a_thread()}/runs/stream", json=body()) as answer:
            run = await world.next_run()
            seen = ""
            async for text in answer.aiter_text():
                seen += text
                run.say("custom", 0, StreamMode.CUSTOM)
                if seen.count(": heartbeat\r\n\r\n") == 3:
                    break
            run.end({})
        assert not re.sub(r"(: heartbeat|event: \w+\r\ndata: [^\r]*)\r\n\r\n", "", seen)


async def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    async with serving(HttpOptions(heartbeat_seconds=0.05)) as world:
        run = await started(world)
        async with (
            world.client.stream("GET", stream_of(run)),  # never read
            world.client.stream("GET", stream_of(run)) as reading,
        ):
            for _ in range(200):
                run.say("custom", "x" * 100_000, StreamMode.CUSTOM)
                await asyncio.sleep(0)
            run.end({})
            text = await asyncio.wait_for(reading.aread(), 10)
        assert [f.event for f in frames(text.decode())] == ["metadata"] + ["custom"] * 200


async def test_a_reader_that_fell_behind_is_told_so_in_the_stream() -> None:
    async with serving(bounds=Bounds(events=10)) as world:
        run = await started(world)
        async with world.client.stream("GET", stream_of(run)) as answer:
            for n in range(100):
                run.say("custom", n, StreamMode.CUSTOM)
            *_, frame = frames((await answer.aread()).decode())
    assert (frame.event, frame.data["error"]) == ("error", "Unavailable")


async def leave_during(world: World, method: str, path: str, **options: object) -> None:
    async with httpx.AsyncClient(base_url=world.url) as leaving, leaving.stream(method, path, **options) as answer:  # type: ignore[arg-type]
        assert answer.status_code == 200


async def test_leaving_a_join_with_cancel_on_disconnect_cancels_the_run(world: World) -> None:
    for path in ("stream", "join"):
        run = await started(world)
        place = f"/threads/{run.thread_id}/runs/{run.run_id}/{path}"
        await leave_during(world, "GET", place, params={"cancel_on_disconnect": "true"})
        assert await world.next_cancel() == (run.run_id, CancelAction.INTERRUPT)


async def test_leaving_a_stream_frees_its_reader_and_is_no_news(world: World, caplog: pytest.LogCaptureFixture) -> None:
    run = await started(world)
    caplog.clear()
    await leave_during(world, "GET", stream_of(run))
    await until(lambda: not run.writer.is_watched)
    assert [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")] == []
    assert world.rows.cancels.empty()


async def test_a_run_that_ends_while_its_client_leaves_is_not_cancelled(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    thread: ThreadId = world.a_thread()
    path = f"/threads/{thread}/runs/stream"
    async with world.client.stream("POST", path, json=body(on_disconnect="cancel")) as answer:
        run = await world.next_run()
        run.end({})
        await answer.aread()
    assert (await world.client.get("/ok")).status_code == 200
    assert world.rows.cancels.empty()
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []
