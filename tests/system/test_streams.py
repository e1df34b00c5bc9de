"""Streams on the wire and through the SDK: modes, order, namespaces, resuming, readers, disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.support.server import Server
from tests.system.sse import Frame, frames, stream
from tests.system.waiting import until_status


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        yield client


async def run(http: httpx.AsyncClient, graph: str, given: Any, *modes: str, **more: Any) -> list[Frame]:
    body = {"assistant_id": graph, "input": given, "stream_mode": list(modes), "if_not_exists": "create", **more}
    return await stream(http, "POST", f"/threads/{uuid4()}/runs/stream", json=body)


def names(found: list[Frame]) -> list[str]:
    return [frame.event for frame in found]


async def test_metadata_comes_first_then_the_values_of_each_step(http: httpx.AsyncClient) -> None:
    found = await run(http, "line", {"value": 7}, "values")
    assert names(found) == ["metadata", "values", "values", "values"]
    assert found[0].data["attempt"] == 1
    assert [frame.data["log"] for frame in found[1:]] == [[], ["one"], ["one", "two"]]
    assert all(frame.id is None for frame in found)


async def test_the_headers_say_where_the_run_is_and_how_to_come_back(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    body = {"assistant_id": "line", "input": {}, "if_not_exists": "create"}
    async with http.stream("POST", f"/threads/{thread}/runs/stream", json=body) as response:
        found = [frame async for frame in frames(response)]
    run_id = found[0].data["run_id"]
    assert response.headers["content-location"] == f"/threads/{thread}/runs/{run_id}"
    assert response.headers["location"] == f"/threads/{thread}/runs/{run_id}/stream"
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"


async def test_lines_end_as_the_protocol_says(http: httpx.AsyncClient) -> None:
    answer = await http.post("/runs/stream", json={"assistant_id": "line", "input": {}})
    assert answer.text.startswith("event: metadata\r\ndata: {")
    assert answer.text.endswith("\r\n\r\n")
    assert "\n" not in answer.text.replace("\r\n", "")


async def test_updates_come_before_the_values_of_the_same_step(http: httpx.AsyncClient) -> None:
    found = await run(http, "line", {"value": 7}, "values", "updates")
    assert names(found) == ["metadata", "values", "updates", "values", "updates", "values"]
    assert found[2].data == {"one": {"log": ["one"]}}


async def test_custom_events_arrive_as_the_node_wrote_them(http: httpx.AsyncClient) -> None:
    found = await run(http, "custom", {"value": 3}, "custom")
    assert [frame.data for frame in found[1:]] == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_tasks_and_checkpoints_and_debug_tell_the_same_story(http: httpx.AsyncClient) -> None:
    found = await run(http, "line", {}, "tasks", "checkpoints", "debug")
    tasks = [frame.data for frame in found if frame.event == "tasks"]
    assert [task["name"] for task in tasks] == ["one", "one", "two", "two"]
    assert [("result" in task) for task in tasks] == [False, True, False, True]
    checkpoints = [frame.data for frame in found if frame.event == "checkpoints"]
    assert [c["next"] for c in checkpoints][-1] == []
    debug = [frame.data["type"] for frame in found if frame.event == "debug"]
    assert debug == [
        "checkpoint",
        "checkpoint",
        "task",
        "task_result",
        "checkpoint",
        "task",
        "task_result",
        "checkpoint",
    ]


def keys_of_configurables(value: Any) -> Iterator[str]:
    """The keys of every `configurable`, however deep it is."""
    if isinstance(value, Frame):
        yield from keys_of_configurables(value.data)
    elif isinstance(value, list):
        for item in value:
            yield from keys_of_configurables(item)
    elif isinstance(value, dict):
        yield from value.get("configurable") or ()
        for item in value.values():
            yield from keys_of_configurables(item)


async def test_nothing_of_the_servers_own_leaks_into_a_stream(http: httpx.AsyncClient) -> None:
    found = await run(http, "line", {}, "debug", "checkpoints", "events", "tasks", "messages-tuple")
    text = str([frame.data for frame in found])
    assert "__heddle" not in text
    assert "langgraph_auth" not in text
    assert [key for key in keys_of_configurables(found) if key.startswith("__")] == []


async def test_message_chunks_have_the_id_of_the_stored_message(http: httpx.AsyncClient) -> None:
    state = {"messages": [{"role": "user", "content": "hi", "id": "mine"}]}
    found = await run(http, "chat", state, "messages-tuple", "values")
    chunks = [frame.data for frame in found if frame.event == "messages"]
    assert "".join(chunk["content"] for chunk, _ in chunks).strip() == "Polly wants a cracker"
    stored = found[-1].data["messages"]
    assert [message["type"] for message in stored] == ["human", "ai"]
    assert stored[0]["id"] == "mine"
    assert {chunk["id"] for chunk, _ in chunks} == {stored[1]["id"]}
    assert chunks[0][1]["langgraph_node"] == "talk"


async def test_messages_mode_accumulates_the_text(http: httpx.AsyncClient) -> None:
    found = await run(http, "chat", {"messages": [{"role": "user", "content": "hi"}]}, "messages")
    assert set(names(found)) == {"metadata", "messages/metadata", "messages/partial"}
    partial = [frame.data[0]["content"] for frame in found if frame.event == "messages/partial"]
    assert all(later.startswith(earlier) for earlier, later in zip(partial, partial[1:], strict=False))
    assert partial[-1].strip() == "Polly wants a cracker"


async def test_a_tool_result_arrives_as_a_complete_message(http: httpx.AsyncClient) -> None:
    found = await run(http, "chat", {"messages": [{"role": "user", "content": "look"}]}, "messages")
    complete = [frame.data[0] for frame in found if frame.event == "messages/complete"]
    assert [message["type"] for message in complete] == ["tool"]


async def test_langchain_events_name_what_ran(http: httpx.AsyncClient) -> None:
    found = await run(http, "chat", {"messages": [{"role": "user", "content": "hi"}]}, "events", "values")
    kinds = {frame.data["event"] for frame in found if frame.event == "events"}
    assert {"on_chain_start", "on_chain_end", "on_chat_model_stream"} <= kinds
    assert [frame.event for frame in found if frame.event == "values"]


async def test_subgraphs_speak_under_their_namespace_when_asked(http: httpx.AsyncClient) -> None:
    quiet = await run(http, "parent", {}, "updates")
    loud = await run(http, "parent", {}, "updates", stream_subgraphs=True)
    assert not [name for name in names(quiet) if "|" in name]
    inner = [frame for frame in loud if frame.event.startswith("updates|sub:")]
    assert inner[0].data == {"inner": {"log": ["inner"]}}


async def test_an_interrupt_is_streamed_with_values_and_updates(http: httpx.AsyncClient) -> None:
    found = await run(http, "ask", {}, "values", "updates")
    (update,) = [f.data for f in found if f.event == "updates" and "__interrupt__" in f.data]
    assert update["__interrupt__"][0]["value"] == {"question": "first?"}
    assert found[-1].data["__interrupt__"][0]["id"] == update["__interrupt__"][0]["id"]


async def test_an_error_ends_the_stream_once(http: httpx.AsyncClient) -> None:
    found = await run(http, "fail", {"value": "value"}, "values", "updates")
    assert names(found).count("error") == 1
    assert found[-1] == Frame("error", {"error": "ValueError", "message": "boom happened"}, None)


async def test_the_sdk_raises_for_a_failed_stream(client: LangGraphClient) -> None:
    seen = [part.event async for part in client.runs.stream(None, "fail", input={"value": "value"})]
    assert seen[-1] == "error"


async def test_a_resumable_stream_replays_exactly_from_any_event(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    body = {"assistant_id": "line", "input": {}, "if_not_exists": "create", "stream_mode": ["values", "updates"]}
    whole = await stream(http, "POST", f"/threads/{thread}/runs/stream", json=body | {"stream_resumable": True})
    path = f"/threads/{thread}/runs/{whole[0].data['run_id']}/stream"
    assert all(frame.id for frame in whole)
    assert await stream(http, "GET", path, headers={"last-event-id": "-1"}) == whole
    assert await stream(http, "GET", path, headers={"last-event-id": "rubbish"}) == whole
    for place, frame in enumerate(whole):
        rest = await stream(http, "GET", path, headers={"last-event-id": str(frame.id)})
        assert rest == whole[place + 1 :]


async def test_a_resumed_failed_run_says_its_error_again(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    body = {"assistant_id": "fail", "input": {"value": "value"}, "if_not_exists": "create", "stream_resumable": True}
    whole = await stream(http, "POST", f"/threads/{thread}/runs/stream", json=body)
    path = f"/threads/{thread}/runs/{whole[0].data['run_id']}/stream"
    replay = await stream(http, "GET", path, headers={"last-event-id": str(whole[1].id)})
    assert replay[-1].event == "error"


@pytest.mark.parametrize(
    "query", ["stream_mode=updates", "stream_mode=%5B%22updates%22%5D", "stream_mode=updates,custom",
              "stream_mode=custom&stream_mode=updates"]
)  # fmt: skip
async def test_a_join_filters_by_mode_and_keeps_metadata(http: httpx.AsyncClient, query: str) -> None:
    thread = str(uuid4())
    body = {"assistant_id": "line", "input": {}, "if_not_exists": "create", "stream_resumable": True}
    whole = await stream(
        http, "POST", f"/threads/{thread}/runs/stream", json=body | {"stream_mode": ["values", "updates"]}
    )
    path = f"/threads/{thread}/runs/{whole[0].data['run_id']}/stream?{query}"
    found = await stream(http, "GET", path, headers={"last-event-id": "-1"})
    assert names(found) == ["metadata", "updates", "updates"]


async def test_joining_an_unknown_run_is_404_before_the_stream(
    http: httpx.AsyncClient, client: LangGraphClient
) -> None:
    thread = (await client.threads.create())["thread_id"]
    assert (await http.get(f"/threads/{thread}/runs/{uuid4()}/stream")).status_code == 404
    assert (await http.get(f"/threads/{thread}/runs/{uuid4()}/join")).status_code == 404


async def test_joining_a_finished_run_closes_at_once(http: httpx.AsyncClient, client: LangGraphClient) -> None:
    thread = (await client.threads.create())["thread_id"]
    done = await client.runs.create(thread, "line", input={})
    await client.runs.join(thread, done["run_id"])
    async with asyncio.timeout(5):
        found = await stream(http, "GET", f"/threads/{thread}/runs/{done['run_id']}/stream")
    assert names(found)[-1:] in ([], ["values"])


async def test_every_reader_of_a_run_sees_every_event(
    http: httpx.AsyncClient, client: LangGraphClient, folder: Path
) -> None:
    thread = (await client.threads.create())["thread_id"]
    gate = folder / "gate"
    body: Any = {"left": 20, "gate": str(gate)}
    started = await client.runs.create(thread, "steps", input=body, stream_mode="updates", stream_resumable=True)
    path = f"/threads/{thread}/runs/{started['run_id']}/stream"
    readers = [asyncio.create_task(stream(http, "GET", path, headers={"last-event-id": "-1"})) for _ in range(5)]
    await until_status(client, thread, started["run_id"], "running")
    gate.touch()
    found = await asyncio.gather(*readers)
    assert [frame.data for frame in found[0] if frame.event == "updates"] == [
        {"step": {"left": left - 1, "done": [left]}} for left in range(20, 0, -1)
    ]
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize(("on_disconnect", "status"), [("cancel", "interrupted"), ("continue", "success")])
async def test_a_reader_that_leaves_takes_the_run_along_only_if_it_said_so(
    http: httpx.AsyncClient, client: LangGraphClient, folder: Path, on_disconnect: str, status: str
) -> None:
    thread = (await client.threads.create())["thread_id"]
    gate = folder / "gate"
    body = {"assistant_id": "steps", "input": {"left": 1, "gate": str(gate)}, "on_disconnect": on_disconnect}
    async with http.stream("POST", f"/threads/{thread}/runs/stream", json=body) as response:
        first = await anext(frames(response))
    if on_disconnect == "continue":
        gate.touch()
    await until_status(client, thread, first.data["run_id"], status)


async def test_a_stateless_stream_can_be_resumed_where_its_location_says(http: httpx.AsyncClient) -> None:
    body = {"assistant_id": "line", "input": {}, "stream_resumable": True}
    async with http.stream("POST", "/runs/stream", json=body) as response:
        whole = [frame async for frame in frames(response)]
    assert response.headers["location"] == f"/runs/{whole[0].data['run_id']}/stream"
    replay = await stream(http, "GET", response.headers["location"], headers={"last-event-id": str(whole[0].id)})
    assert replay == whole[1:]


async def test_quiet_streams_and_waits_are_kept_alive(http: httpx.AsyncClient, folder: Path) -> None:
    gate = folder / "gate"
    body = {"assistant_id": "steps", "input": {"left": 1, "gate": str(gate)}}

    async def first_heartbeat(path: str, beat: bytes) -> None:
        async with http.stream("POST", path, json=body) as response:
            seen = b""
            async for part in response.aiter_raw():
                seen += part
                if beat in seen:
                    return
            raise AssertionError("no heartbeat")

    async with asyncio.timeout(12):
        await asyncio.gather(first_heartbeat("/runs/stream", b": heartbeat"), first_heartbeat("/runs/wait", b"\n"))
    gate.touch()
