"""Runs over HTTP: bodies, headers, answers and errors."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from heddle_core.domain.events import StreamMode
from heddle_core.domain.run import CancelAction, Durability, IfNotExists, RunStatus
from heddle_server.http.options import HeaderRules, HttpOptions
from tests.server.http.world import ASSISTANT, World, serving

NOBODY = UUID("00000000-0000-7000-8000-000000000001")


def body(**fields: Any) -> dict[str, Any]:
    return {"assistant_id": "agent", "input": {"n": 1}, **fields}


async def test_a_background_run_answers_with_the_run_and_says_where_it_is(world: World) -> None:
    thread = world.a_thread()
    answer = await world.client.post(f"/threads/{thread}/runs", json=body())
    run = answer.json()

    assert answer.status_code == 200
    assert answer.headers["content-location"] == f"/threads/{thread}/runs/{run['run_id']}"
    assert "location" not in answer.headers
    assert run["thread_id"] == str(thread)
    assert run["assistant_id"] == str(ASSISTANT)
    assert run["status"] == "running"
    assert run["kwargs"]["input"] == {"n": 1}
    assert run["multitask_strategy"] == "enqueue"
    assert run["created_at"].endswith("+00:00")
    assert (await world.client.get(f"/threads/{thread}/runs/{run['run_id']}")).json() == run


async def test_every_option_of_a_body_reaches_the_run(world: World) -> None:
    thread, checkpoint = world.a_thread(), str(uuid4())
    answer = await world.client.post(
        f"/threads/{thread}/runs",
        json=body(
            command={"resume": {"a": None}, "update": [["k", 1]], "goto": [{"node": "work", "input": 2}]},
            checkpoint_id=checkpoint,
            metadata={"m": 1},
            config={"tags": ["t"], "recursion_limit": 5, "configurable": {"c": 1}, "callbacks": ["x"]},
            stream_mode=["values", "messages-tuple", "values"],
            stream_subgraphs=True,
            stream_resumable=True,
            interrupt_before=["*"],
            interrupt_after=["work"],
            feedback_keys=["f"],
            langsmith_tracer={"project_name": "p"},
            durability="sync",
            multitask_strategy="reject",
            webhook=None,
            unknown_field=1,
        ),
    )
    assert answer.status_code == 200, answer.text
    new = world.rows.new[(await world.next_run()).run_id]
    kwargs = new.kwargs
    assert kwargs.command == {
        "resume": {"a": None},
        "update": [["k", 1]],
        "goto": [{"node": "work", "input": 2}],
    }
    assert kwargs.checkpoint == {"checkpoint_id": checkpoint}
    assert kwargs.config["tags"] == ["t"]
    assert kwargs.config["recursion_limit"] == 5
    assert kwargs.config["configurable"]["c"] == 1
    assert "callbacks" not in kwargs.config
    assert kwargs.stream_modes == (StreamMode.VALUES, StreamMode.MESSAGES_TUPLE)
    assert kwargs.subgraphs
    assert kwargs.resumable
    assert kwargs.interrupt_before == "*"
    assert kwargs.interrupt_after == ("work",)
    assert kwargs.durability is Durability.SYNC
    assert kwargs.feedback_keys == ("f",)


@pytest.mark.parametrize(
    ("fields", "durability"),
    [
        ({}, Durability.ASYNC),
        ({"checkpoint_during": True}, Durability.ASYNC),
        ({"checkpoint_during": False}, Durability.EXIT),
        ({"checkpoint_during": False, "durability": "sync"}, Durability.SYNC),
    ],
)
async def test_checkpoint_during_is_the_old_word_for_durability(
    world: World, fields: dict[str, Any], durability: Durability
) -> None:
    await world.client.post(f"/threads/{world.a_thread()}/runs", json=body(**fields))
    assert (await world.next_run()).claim.kwargs.durability is durability


@pytest.mark.parametrize("command", [{}, {"resume": None}, None])
async def test_an_empty_command_is_no_command(world: World, command: Any) -> None:
    await world.client.post(f"/threads/{world.a_thread()}/runs", json=body(command=command))
    assert (await world.next_run()).claim.kwargs.command is None


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({"assistant_id": None}, 422, "body.assistant_id: field required"),
        ({"assistant_id": 7}, 422, "body.assistant_id: must be a string"),
        ({"assistant_id": "nobody"}, 422, "Invalid assistant: 'nobody'. Must be either"),
        ({"assistant_id": str(uuid4())}, 404, "not found"),
        ({"webhook": "https://x.example"}, 422, "body.webhook: not supported"),
        (
            {"context": {"a": 1}, "config": {"configurable": {"a": 1}}},
            400,
            "Cannot specify both configurable and context",
        ),
        ({"config": {"tags": "x"}}, 422, "body.config.tags: must be a list"),
        ({"config": {"recursion_limit": 0}}, 422, "body.config.recursion_limit: "),
        ({"config": []}, 422, "body.config: must be an object"),
        ({"metadata": []}, 422, "body.metadata: must be an object"),
        ({"stream_mode": "colours"}, 422, "body.stream_mode"),
        ({"stream_mode": ["values", "colours"]}, 422, "body.stream_mode[1]: must be 'values'"),
        ({"stream_subgraphs": "yes"}, 422, "body.stream_subgraphs: must be true or false"),
        ({"after_seconds": -1}, 422, "body.after_seconds: must be greater than or equal to 0"),
        ({"after_seconds": 1e300}, 422, "body.after_seconds: "),
        ({"after_seconds": "soon"}, 422, "body.after_seconds: must be a number"),
        ({"multitask_strategy": "hope"}, 422, "body.multitask_strategy: must be 'reject', "),
        ({"if_not_exists": 1}, 422, "body.if_not_exists: "),
        ({"on_disconnect": "x"}, 422, "body.on_disconnect: "),
        ({"durability": "x"}, 422, "body.durability: "),
        ({"interrupt_before": "work"}, 422, "body.interrupt_before"),
        ({"checkpoint_id": "x"}, 422, "Invalid checkpoint ID"),
        ({"command": {"goto": "nowhere"}}, 422, "body.command.goto: unknown node 'nowhere'"),
        ({"command": {"goto": 5}}, 422, "body.command.goto"),
        ({"command": {"update": [[1, 2]]}}, 422, "body.command.update"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said_by_name(
    world: World, fields: dict[str, Any], status: int, detail: str
) -> None:
    answer = await world.client.post(f"/threads/{world.a_thread()}/runs", json=body(**fields))
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]
    assert isinstance(answer.json()["detail"], str)


async def test_an_unknown_thread_is_404_unless_it_may_be_created(world: World) -> None:
    thread = uuid4()
    refused = await world.client.post(f"/threads/{thread}/runs", json=body())
    created = await world.client.post(f"/threads/{thread}/runs", json=body(if_not_exists="create"))
    assert (refused.status_code, refused.json()) == (404, {"detail": "Thread or assistant not found."})
    assert created.status_code == 200
    assert world.rows.new[(await world.next_run()).run_id].if_not_exists is IfNotExists.CREATE


async def test_a_busy_thread_refuses_with_409_when_asked_to(world: World) -> None:
    thread = world.a_thread()
    await world.client.post(f"/threads/{thread}/runs", json=body())
    answer = await world.client.post(f"/threads/{thread}/runs", json=body(multitask_strategy="reject"))
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("Thread is already running a task.")


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/threads/x/runs", "Invalid thread ID: must be a UUID"),
        (f"/threads/{NOBODY}/runs/x", "Invalid run ID: must be a UUID"),
        (f"/threads/{NOBODY}/runs/x/join", "Invalid run ID: must be a UUID"),
        ("/runs/x/stream", "Invalid run ID: must be a UUID"),
    ],
)
async def test_an_id_that_is_no_uuid_is_422(world: World, path: str, detail: str) -> None:
    answer = await world.client.get(path)
    assert (answer.status_code, answer.json()) == (422, {"detail": detail})


async def test_runs_are_listed_newest_first_by_status_and_field(world: World) -> None:
    thread = world.a_thread()
    ids = [(await world.client.post(f"/threads/{thread}/runs", json=body())).json()["run_id"] for _ in range(3)]
    runs = f"/threads/{thread}/runs"

    assert [r["run_id"] for r in (await world.client.get(runs)).json()] == ids[::-1]
    assert [r["run_id"] for r in (await world.client.get(runs, params={"limit": 1, "offset": 1})).json()] == [ids[1]]
    assert [r["run_id"] for r in (await world.client.get(runs, params={"status": "running"})).json()] == [ids[0]]
    assert (await world.client.get(runs, params={"status": "sleepy"})).json() == []
    selected = await world.client.get(runs, params={"select": ["run_id", "status"], "limit": "1"})
    assert selected.json() == [{"run_id": ids[2], "status": "pending"}]
    for limit in ("0", "1001", "x"):
        assert (await world.client.get(runs, params={"limit": limit})).status_code == 400
    assert (await world.client.get(runs, params={"select": "colour"})).status_code == 422
    assert (await world.client.get(f"/threads/{uuid4()}/runs")).status_code == 404


async def test_wait_answers_with_the_output_and_where_to_join(world: World) -> None:
    thread = world.a_thread()
    waiting = asyncio.create_task(world.client.post(f"/threads/{thread}/runs/wait", json=body()))
    run = await world.next_run()
    run.end({"answer": 42})
    answer = await waiting
    assert answer.json() == {"answer": 42}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-location"] == f"/threads/{thread}/runs/{run.run_id}"
    assert answer.headers["location"] == f"/threads/{thread}/runs/{run.run_id}/join"


async def test_waiting_shows_headers_at_once_and_newlines_until_the_json() -> None:
    async with serving(HttpOptions(heartbeat_seconds=0.05)) as world:
        thread = world.a_thread()
        async with world.client.stream("POST", f"/threads/{thread}/runs/wait", json=body()) as answer:
            assert answer.status_code == 200
            run = await world.next_run()
            parts = answer.aiter_raw()
            assert await anext(parts) == b"\n"
            assert await anext(parts) == b"\n"
            run.end({"n": 1})
            rest = b"".join([part async for part in parts])
        assert rest.strip() == b'{"n": 1}'


async def test_join_answers_when_the_run_ends_and_404_before_headers_for_an_unknown_one(world: World) -> None:
    thread = world.a_thread()
    await world.client.post(f"/threads/{thread}/runs", json=body())
    run = await world.next_run()
    joining = asyncio.create_task(world.client.get(f"/threads/{thread}/runs/{run.run_id}/join"))
    missing = await world.client.get(f"/threads/{thread}/runs/{uuid4()}/join")
    run.end({"done": True})
    assert missing.status_code == 404
    assert (await joining).json() == {"done": True}


async def test_cancel_answers_202_at_once_and_404_when_there_is_nothing_to_cancel(world: World) -> None:
    thread = world.a_thread()
    await world.client.post(f"/threads/{thread}/runs", json=body())
    run = await world.next_run()
    cancel = f"/threads/{thread}/runs/{run.run_id}/cancel"

    bad = await world.client.post(cancel, params={"action": "explode"})
    first = await world.client.post(cancel, params={"action": "rollback"})
    second = await world.client.post(cancel)

    assert bad.status_code == 422
    assert (first.status_code, first.content) == (202, b"")
    assert second.status_code == 404
    assert await world.next_cancel() == (run.run_id, CancelAction.ROLLBACK)


@pytest.mark.parametrize("wait", ["1", "true"])
async def test_cancel_with_wait_answers_an_empty_object_when_the_run_is_over(world: World, wait: str) -> None:
    thread = world.a_thread()
    await world.client.post(f"/threads/{thread}/runs", json=body())
    run = await world.next_run()
    answer = await world.client.post(f"/threads/{thread}/runs/{run.run_id}/cancel", params={"wait": wait})
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["location"].endswith(f"{run.run_id}/join")
    assert world.rows.rows[run.run_id].status is RunStatus.INTERRUPTED


async def test_cancel_many_takes_a_status_or_ids(world: World) -> None:
    thread = world.a_thread()
    await world.client.post(f"/threads/{thread}/runs", json=body())
    run = await world.next_run()
    cancel = world.client.post
    both = await cancel("/runs/cancel", json={"status": "all", "thread_id": str(thread), "run_ids": []})
    neither = await cancel("/runs/cancel", json={})
    wrong = await cancel("/runs/cancel", json={"status": "success"})
    assert [a.status_code for a in (both, neither, wrong)] == [422, 422, 422]

    done = await cancel("/runs/cancel", json={"thread_id": str(thread), "run_ids": [str(run.run_id)]})
    nothing = await cancel("/runs/cancel", json={"status": "all"})
    assert (done.status_code, done.content) == (204, b"")
    assert (nothing.status_code, nothing.json()) == (404, {"detail": "No runs found to cancel."})


async def test_delete_removes_a_run_that_is_over(world: World) -> None:
    thread = world.a_thread()
    await world.client.post(f"/threads/{thread}/runs", json=body())
    run = await world.next_run()
    run.end({})
    path = f"/threads/{thread}/runs/{run.run_id}"
    assert (await world.client.delete(path)).status_code == 204
    assert (await world.client.delete(path)).status_code == 404


async def test_stateless_runs_live_on_hidden_threads_and_answer_at_their_own_paths(world: World) -> None:
    created = await world.client.post("/runs", json=body())
    run = created.json()
    assert created.headers["content-location"] == f"/runs/{run['run_id']}"
    assert run["kwargs"]["temporary"] is True
    assert world.rows.new[(await world.next_run()).run_id].ephemeral

    kept = (await world.client.post("/runs", json=body(on_completion="keep"))).json()
    assert kept["kwargs"]["temporary"] is False

    await world.next_run()
    waiting = asyncio.create_task(world.client.post("/runs/wait", json=body()))
    third = await world.next_run()
    third.end([1])
    answer = await waiting
    assert answer.json() == [1]
    assert answer.headers["content-location"] == f"/threads/{third.thread_id}/runs/{third.run_id}"
    assert answer.headers["location"] == f"/threads/{third.thread_id}/runs/{third.run_id}/join"


async def test_a_batch_starts_each_run_and_needs_at_least_one(world: World) -> None:
    answer = await world.client.post("/runs/batch", json=[body(), body(input=2)])
    assert [r["kwargs"]["input"] for r in answer.json()] == [{"n": 1}, 2]
    empty = await world.client.post("/runs/batch", json=[])
    assert empty.status_code == 422
    bad = await world.client.post("/runs/batch", json=[body(), {"assistant_id": 3}])
    assert bad.json()["detail"] == "body[1].assistant_id: must be a string"


async def test_the_mount_prefix_is_taken_off_requests_and_put_into_places() -> None:
    async with serving(HttpOptions(mount_prefix="/agents/api")) as world:
        thread = world.a_thread()
        answer = await world.client.post(f"/agents/api/threads/{thread}/runs", json=body())
        run_id = answer.json()["run_id"]
        assert answer.headers["content-location"] == f"/agents/api/threads/{thread}/runs/{run_id}"
        assert (await world.client.get("/agents/api/ok")).status_code == 200


async def test_the_request_id_and_the_listed_headers_go_into_the_configurable() -> None:
    rules = HeaderRules(includes=("x-tenant-*",), excludes=("x-tenant-secret",))
    async with serving(HttpOptions(configurable_headers=rules)) as world:
        headers = {"X-Request-Id": "abc-1", "X-Tenant-Foo": "v", "X-Tenant-Secret": "s", "Authorization": "Bearer t"}
        await world.client.post(f"/threads/{world.a_thread()}/runs", json=body(), headers=headers)
        configurable = (await world.next_run()).claim.kwargs.config["configurable"]
    assert configurable == {"langgraph_request_id": "abc-1", "x-tenant-foo": "v"}


async def test_a_client_that_leaves_stops_its_run_only_if_it_said_so(world: World) -> None:
    for on_disconnect in ("continue", "cancel"):
        thread = world.a_thread()
        async with httpx.AsyncClient(base_url=world.url) as leaving:
            wish = body(on_disconnect=on_disconnect)
            async with leaving.stream("POST", f"/threads/{thread}/runs/wait", json=wish):
                run = await world.next_run()
        if on_disconnect == "cancel":
            assert await world.next_cancel() == (run.run_id, CancelAction.INTERRUPT)
        else:
            run.end({})
            joined = await world.client.get(f"/threads/{thread}/runs/{run.run_id}/join")
            assert joined.status_code == 200
            assert world.rows.cancels.empty()
