"""Runs through the official SDK: create, wait, join, list, get, cancel, delete, batch, commands."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from tests.support.server import Server
from tests.system.waiting import until, until_status


async def new_thread(client: LangGraphClient) -> str:
    return str((await client.threads.create())["thread_id"])


async def test_wait_answers_with_the_final_values(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    assert await client.runs.wait(thread, "line", input={}) == {"log": ["one", "two"]}


async def test_a_second_run_continues_the_state_of_the_first(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    await client.runs.wait(thread, "echo", input={"value": 1})
    assert (await client.runs.wait(thread, "echo", input={"value": 2}))["log"] == [1, 2]


async def test_a_background_run_can_be_joined_and_read(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    run = await client.runs.create(thread, "line", input={}, metadata={"why": "test"})
    assert UUID(run["run_id"]).version == 7
    assert run["thread_id"] == thread
    assert await client.runs.join(thread, run["run_id"]) == {"log": ["one", "two"]}
    read = await client.runs.get(thread, run["run_id"])
    assert read["status"] == "success"
    assert read["metadata"]["why"] == "test"
    assert read["multitask_strategy"] == "enqueue"
    assert [r["run_id"] for r in await client.runs.list(thread)] == [run["run_id"]]


async def test_the_thread_row_follows_the_run(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    assert (await client.threads.get(thread))["values"] is None
    await client.runs.wait(thread, "line", input={})
    row = await client.threads.get(thread)
    assert row["status"] == "idle"
    assert row["values"] == {"log": ["one", "two"]}
    assert row["metadata"]["graph_id"] == "line"


async def test_a_run_on_an_unknown_thread_is_refused_or_makes_it(client: LangGraphClient) -> None:
    thread = str(uuid4())
    with pytest.raises(APIStatusError) as refused:
        await client.runs.create(thread, "line", input={})
    assert refused.value.response.status_code == 404
    assert await client.runs.wait(thread, "line", input={}, if_not_exists="create") == {"log": ["one", "two"]}


async def test_an_unknown_assistant_is_refused_by_name(client: LangGraphClient) -> None:
    with pytest.raises(APIStatusError) as refused:
        await client.runs.create(await new_thread(client), "no-such-graph", input={})
    assert refused.value.response.status_code == 422
    assert "no-such-graph" in refused.value.response.json()["detail"]


async def test_a_stateless_run_leaves_no_thread_behind(client: LangGraphClient, server: Server) -> None:
    before = await client.threads.count()
    assert await client.runs.wait(None, "line", input={}) == {"log": ["one", "two"]}
    run = await client.runs.create(None, "line", input={})
    await until(lambda: _gone(client, run["thread_id"]))
    assert await client.threads.count() == before


async def _gone(client: LangGraphClient, thread_id: str) -> bool:
    try:
        await client.threads.get(thread_id)
    except APIStatusError as error:
        return error.response.status_code == 404
    return False


async def test_a_stateless_run_can_keep_its_thread(client: LangGraphClient) -> None:
    run = await client.runs.create(None, "line", input={}, on_completion="keep")
    await client.runs.join(run["thread_id"], run["run_id"])
    assert (await client.threads.get(run["thread_id"]))["values"] == {"log": ["one", "two"]}


async def test_a_batch_starts_every_run(client: LangGraphClient) -> None:
    runs = await client.runs.create_batch([{"assistant_id": "line", "input": {}} for _ in range(3)])
    assert len({run["run_id"] for run in runs}) == 3


async def test_a_mistake_in_a_batch_starts_none_of_it(client: LangGraphClient) -> None:
    before = (await client.http.get("/metrics?format=json"))["queue"]["n_pending"]
    thread = await new_thread(client)
    with pytest.raises(APIStatusError):
        await client.runs.create_batch(
            [{"assistant_id": "remember", "input": {"value": thread}}, {"assistant_id": "nobody", "input": {}}]
        )
    assert (await client.http.get("/metrics?format=json"))["queue"]["n_pending"] == before
    item = await client.store.get_item(["notes"], "last")
    assert not item or item["value"] != {"text": thread}


async def test_the_log_lines_of_a_request_and_of_its_run_carry_both_ids(server: Server) -> None:
    name = "find-me-in-the-log"
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post(
            "/runs/wait", json={"assistant_id": "line", "input": {}}, headers={"x-request-id": name}
        )
    run_id = answer.headers["content-location"].rsplit("/", 1)[-1]

    async def both_are_logged() -> bool:
        lines = [line for line in server.output().splitlines() if name in line]
        ended = [line for line in lines if "run_ended" in line and run_id in line]
        return bool(ended) and bool([line for line in lines if "/runs/wait" in line])

    await until(both_are_logged)  # the line of a request is written when its answer is out


async def test_a_failed_run_says_so_everywhere(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    result = await client.runs.wait(thread, "fail", input={"value": "value"}, raise_error=False)
    assert result == {"__error__": {"error": "ValueError", "message": "boom happened"}}
    row = await client.threads.get(thread)
    assert row["status"] == "error"
    assert row["error"] == {"error": "ValueError", "message": "boom happened"}
    assert (await client.runs.list(thread))[0]["status"] == "error"
    state = await client.threads.get_state(thread)
    assert state["tasks"][0]["error"] == "ValueError('boom happened')"
    assert state["next"] == ["fail"]


@pytest.mark.parametrize("how", ["exit", "base", "keyboard", "unserialisable", "cancelled", "huge"])
async def test_no_way_of_failing_hurts_the_server_or_sticks_the_thread(client: LangGraphClient, how: str) -> None:
    thread = await new_thread(client)
    result: Any = await client.runs.wait(thread, "fail", input={"value": how}, raise_error=False)
    assert "__error__" in result
    assert "Traceback" not in str(result)
    assert (await client.threads.get(thread))["status"] == "error"
    assert (await client.runs.wait(thread, "line", input={}))["log"][-2:] == ["one", "two"]


@pytest.mark.parametrize(("how", "shown"), [("nul", "a�b"), ("surrogate", "a�b"), ("nan", None)])
async def test_odd_values_in_the_state_are_shown_as_json_can_hold_them(
    client: LangGraphClient, how: str, shown: Any
) -> None:
    thread = await new_thread(client)
    result: Any = await client.runs.wait(thread, "fail", input={"value": how})
    assert result["value"] in (shown, "a?b")
    assert (await client.threads.get(thread))["status"] == "idle"
    assert (await client.threads.get_state(thread))["values"]["value"] in (shown, "a?b")


async def test_an_interrupt_pauses_the_thread_and_a_resume_answers_it(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    paused: Any = await client.runs.wait(thread, "ask", input={})
    assert paused["__interrupt__"][0]["value"] == {"question": "first?"}
    row = await client.threads.get(thread)
    assert row["status"] == "interrupted"
    ((task, [waiting]),) = row["interrupts"].items()
    assert waiting["value"] == {"question": "first?"}
    assert task
    assert (await client.runs.list(thread))[0]["status"] == "success"

    again: Any = await client.runs.wait(thread, "ask", command={"resume": "a"})
    assert again["__interrupt__"][0]["value"] == {"question": "second?"}
    done: Any = await client.runs.wait(thread, "ask", command={"resume": "b"})
    assert done["log"] == ["before", "a", "b", "after"]
    row = await client.threads.get(thread)
    assert (row["status"], row["interrupts"]) == ("idle", {})


async def test_an_interrupt_inside_a_subgraph_is_answered_the_same_way(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    paused: Any = await client.runs.wait(thread, "parent", input={})
    assert paused["__interrupt__"][0]["value"] == {"question": "first?"}
    await client.runs.wait(thread, "parent", command={"resume": 1})
    done: Any = await client.runs.wait(thread, "parent", command={"resume": 2})
    assert done["log"][-3:] == [1, 2, "last"]


async def test_goto_end_closes_an_interrupted_thread(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    await client.runs.wait(thread, "ask", input={})
    await client.runs.wait(thread, "ask", input={}, command={"goto": "__end__"})
    row = await client.threads.get(thread)
    assert (row["status"], row["interrupts"]) == ("idle", {})


async def test_a_jump_to_an_unknown_node_is_refused(client: LangGraphClient) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await client.runs.wait(await new_thread(client), "line", command={"goto": "nowhere"})
    assert refused.value.response.status_code == 422


async def test_a_command_can_update_and_jump(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    await client.runs.wait(thread, "line", input={})
    done: Any = await client.runs.wait(thread, "line", command={"update": {"log": ["told"]}, "goto": "two"})
    assert done["log"] == ["one", "two", "told", "two"]


@pytest.mark.parametrize(
    ("where", "log", "upcoming"),
    [
        ({"interrupt_before": ["two"]}, ["one"], ["two"]),
        ({"interrupt_after": ["one"]}, ["one"], ["two"]),
        ({"interrupt_before": "*"}, [], ["one"]),
    ],
)
async def test_breakpoints_stop_where_they_say_and_an_empty_run_goes_on(
    client: LangGraphClient, where: Any, log: list[str], upcoming: list[str]
) -> None:
    thread = await new_thread(client)
    stopped: Any = await client.runs.wait(thread, "line", input={}, **where)
    assert (stopped.get("log", []) if stopped else []) == log
    assert (await client.threads.get(thread))["status"] == "interrupted"
    assert (await client.threads.get_state(thread))["next"] == upcoming
    done: Any = await client.runs.wait(thread, "line", input=None)
    assert done["log"] == ["one", "two"]


@pytest.mark.parametrize(("durability", "checkpoints"), [("sync", 4), ("async", 4), ("exit", 1)])
async def test_durability_decides_how_many_checkpoints_there_are(
    client: LangGraphClient, durability: Any, checkpoints: int
) -> None:
    thread = await new_thread(client)
    await client.runs.wait(thread, "line", input={}, durability=durability)
    assert len(await client.threads.get_history(thread, limit=100)) == checkpoints


async def test_context_reaches_the_graph_and_the_assistant_fills_the_rest(client: LangGraphClient) -> None:
    assistant = await client.assistants.create("tone", context={"tone": "dry"})
    plain: Any = await client.runs.wait(None, "tone", input={})
    dry: Any = await client.runs.wait(None, assistant["assistant_id"], input={})
    warm: Any = await client.runs.wait(None, assistant["assistant_id"], input={}, context={"tone": "warm"})
    assert [plain["log"], dry["log"], warm["log"]] == [["plain"], ["dry"], ["warm"]]


async def test_a_changed_assistant_is_used_from_its_next_run_on(client: LangGraphClient) -> None:
    assistant = (await client.assistants.create("tone", context={"tone": "one"}))["assistant_id"]
    first: Any = await client.runs.wait(None, assistant, input={})
    await client.assistants.update(assistant, context={"tone": "two"})
    second: Any = await client.runs.wait(None, assistant, input={})
    assert [first["log"], second["log"]] == [["one"], ["two"]]


async def test_the_servers_keys_cannot_be_forged(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    forged = {"thread_id": "forged", "graph_id": "forged", "mine": "kept"}
    seen: Any = await client.runs.wait(thread, "configurable", input={}, config={"configurable": forged})
    (configurable,) = seen["log"]
    assert configurable["thread_id"] == thread
    assert configurable["graph_id"] == "configurable"
    assert configurable["mine"] == "kept"


async def test_a_graph_made_by_a_factory_sees_the_runs_configuration(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    made: Any = await client.runs.wait(thread, "factory", input={}, config={"configurable": {"word": "mine"}})
    assert made["log"] == ["mine"]
    assert (await client.threads.get_state(thread))["values"] == {"log": ["mine"]}


async def test_a_graph_reaches_the_store_that_clients_see(client: LangGraphClient) -> None:
    word = str(uuid4())
    done: Any = await client.runs.wait(None, "remember", input={"value": word})
    assert done["log"] == [word]
    item = await client.store.get_item(["notes"], "last")
    assert item is not None
    assert item["value"] == {"text": word}


async def test_a_run_that_is_not_due_yet_waits_and_blocks_nobody(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    later = await client.runs.create(thread, "line", input={}, after_seconds=3600)
    assert later["status"] == "pending"
    assert (await client.threads.get(thread))["status"] == "busy"
    assert (await client.runs.wait(thread, "echo", input={"value": "now"}))["log"] == ["now"]
    await client.runs.cancel(thread, later["run_id"])
    assert (await client.runs.get(thread, later["run_id"]))["status"] == "interrupted"
    assert (await client.threads.get(thread))["status"] == "idle"


async def test_a_delayed_run_starts_when_it_is_due(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    run = await client.runs.create(thread, "line", input={}, after_seconds=1)
    assert await client.runs.join(thread, run["run_id"]) == {"log": ["one", "two"]}


async def test_a_cancelled_run_keeps_what_it_did(client: LangGraphClient, folder: Path) -> None:
    thread = await new_thread(client)
    gate = folder / "gate"
    run = await client.runs.create(thread, "steps", input={"left": 3, "gate": str(gate)})
    await until_status(client, thread, run["run_id"], "running")
    await client.runs.cancel(thread, run["run_id"], wait=True)
    assert (await client.runs.get(thread, run["run_id"]))["status"] == "interrupted"
    row = await client.threads.get(thread)
    assert row["status"] == "interrupted"
    assert row.get("error") is None
    gate.touch()
    done: Any = await client.runs.wait(thread, "steps", input=None)
    assert done["done"] == [3, 2, 1]


async def test_a_rolled_back_run_leaves_nothing(client: LangGraphClient, folder: Path) -> None:
    thread = await new_thread(client)
    await client.runs.wait(thread, "steps", input={"left": 1})
    before = await client.threads.get_state(thread)
    run = await client.runs.create(thread, "steps", input={"left": 3, "gate": str(folder / "never")})
    await until_status(client, thread, run["run_id"], "running")
    await client.runs.cancel(thread, run["run_id"], wait=True, action="rollback")
    with pytest.raises(APIStatusError):
        await client.runs.get(thread, run["run_id"])
    after = await client.threads.get_state(thread)
    assert after == before
    assert (await client.threads.get(thread))["status"] == "idle"


async def test_a_rollback_gives_the_thread_back_to_the_graph_it_came_from(
    client: LangGraphClient, folder: Path
) -> None:
    thread = await new_thread(client)
    await client.runs.wait(thread, "ask", input={})
    before = await client.threads.get_state(thread)
    run = await client.runs.create(thread, "steps", input={"left": 1, "gate": str(folder / "never")})
    await until_status(client, thread, run["run_id"], "running")
    await client.runs.cancel(thread, run["run_id"], wait=True, action="rollback")
    row = await client.threads.get(thread)
    assert (row["status"], row["metadata"]["graph_id"]) == ("interrupted", "ask")
    assert await client.threads.get_state(thread) == before
    done: Any = await client.runs.wait(thread, "ask", command={"resume": "a"})
    assert done["__interrupt__"][0]["value"] == {"question": "second?"}


async def test_a_finished_run_cannot_be_cancelled(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    run = await client.runs.create(thread, "line", input={})
    await client.runs.join(thread, run["run_id"])
    with pytest.raises(APIStatusError) as refused:
        await client.runs.cancel(thread, run["run_id"])
    assert refused.value.response.status_code == 404


async def test_deleting_a_running_run_stops_it_and_frees_the_thread(client: LangGraphClient, folder: Path) -> None:
    thread = await new_thread(client)
    run = await client.runs.create(thread, "steps", input={"left": 3, "gate": str(folder / "never")})
    await until_status(client, thread, run["run_id"], "running")
    await client.runs.delete(thread, run["run_id"])
    assert await client.runs.list(thread) == []
    assert (await client.threads.get(thread))["status"] in ("idle", "interrupted")


async def test_cancelling_by_status_stops_everything_in_flight(server: Server, folder: Path) -> None:
    """On threads of its own server-wide effect: uses ids, then checks the 404 of an empty match."""
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/runs/cancel", json={"thread_id": str(uuid4()), "run_ids": [str(uuid4())]})
        assert (answer.status_code, answer.json()["detail"]) == (404, "No runs found to cancel.")
        assert (await http.post("/runs/cancel", json={})).status_code == 422


class TestMultitask:
    async def start(self, client: LangGraphClient, gate: Path) -> tuple[str, str]:
        thread = await new_thread(client)
        run = await client.runs.create(thread, "steps", input={"left": 2, "gate": str(gate)})
        await until_status(client, thread, run["run_id"], "running")
        return thread, run["run_id"]

    async def test_reject_answers_409_and_writes_nothing(self, client: LangGraphClient, folder: Path) -> None:
        thread, first = await self.start(client, folder / "gate")
        with pytest.raises(APIStatusError) as refused:
            await client.runs.create(thread, "line", input={}, multitask_strategy="reject")
        assert refused.value.response.status_code == 409
        assert [run["run_id"] for run in await client.runs.list(thread)] == [first]
        await client.runs.cancel(thread, first, wait=True)

    async def test_enqueue_runs_one_after_the_other_in_order(self, client: LangGraphClient, folder: Path) -> None:
        thread, first = await self.start(client, folder / "gate")
        others = [await client.runs.create(thread, "steps", input={"left": 10 * n}) for n in (1, 2)]
        assert [run["status"] for run in await client.runs.list(thread)] == ["pending", "pending", "running"]
        (folder / "gate").touch()
        last: Any = await client.runs.join(thread, others[-1]["run_id"])
        assert last["done"] == [2, 1, *range(10, 0, -1), *range(20, 0, -1)]
        assert (await client.runs.get(thread, first))["status"] == "success"

    async def test_interrupt_stops_the_first_and_builds_on_it(self, client: LangGraphClient, folder: Path) -> None:
        thread, first = await self.start(client, folder / "gate")
        second = await client.runs.create(thread, "echo", input={"value": 1}, multitask_strategy="interrupt")
        await client.runs.join(thread, second["run_id"])
        assert (await client.runs.get(thread, first))["status"] == "interrupted"
        assert (await client.runs.get(thread, second["run_id"]))["status"] == "success"

    async def test_rollback_removes_the_first_with_all_it_wrote(self, client: LangGraphClient, folder: Path) -> None:
        thread, first = await self.start(client, folder / "gate")
        second = await client.runs.create(thread, "line", input={}, multitask_strategy="rollback")
        await client.runs.join(thread, second["run_id"])
        assert [run["run_id"] for run in await client.runs.list(thread)] == [second["run_id"]]
        assert {h["metadata"]["run_id"] for h in await client.threads.get_history(thread)} == {second["run_id"]}

    async def test_many_at_once_never_run_together(self, client: LangGraphClient) -> None:
        thread = await new_thread(client)
        runs = await asyncio.gather(*(client.runs.create(thread, "steps", input={"left": 3}) for _ in range(10)))
        await asyncio.gather(*(client.runs.join(thread, run["run_id"]) for run in runs))
        done = (await client.threads.get(thread))["values"]["done"]
        assert done == [3, 2, 1] * 10
        assert {run["status"] for run in await client.runs.list(thread, limit=20)} == {"success"}
