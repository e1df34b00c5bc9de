"""Threads through the official SDK and on the wire: rows, states, history, forks, copies, supersteps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from tests.support.server import Server
from tests.system.waiting import until_status


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        yield http


async def after(client: LangGraphClient, graph: str, given: Any, **options: Any) -> str:
    """A thread on which `graph` has run."""
    thread = str((await client.threads.create())["thread_id"])
    await client.runs.wait(thread, graph, input=given, **options)
    return thread


def status_of(refused: pytest.ExceptionInfo[APIStatusError]) -> int:
    return refused.value.response.status_code


async def test_a_thread_is_created_changed_and_deleted(client: LangGraphClient) -> None:
    wanted = str(uuid4())
    made = await client.threads.create(thread_id=wanted, metadata={"a": 1, "b": 1})
    assert (made["thread_id"], made["status"], made["values"], made["interrupts"]) == (wanted, "idle", None, {})
    with pytest.raises(APIStatusError) as refused:
        await client.threads.create(thread_id=wanted)
    assert status_of(refused) == 409
    assert await client.threads.create(thread_id=wanted, if_exists="do_nothing", metadata={"c": 1}) == made
    changed = await client.threads.update(wanted, metadata={"b": 2})
    assert changed["metadata"] == {"a": 1, "b": 2}
    await client.threads.delete(wanted)
    with pytest.raises(APIStatusError) as gone:
        await client.threads.get(wanted)
    assert status_of(gone) == 404


async def test_searches_filter_page_select_and_extract(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    mark = {"mark": str(uuid4())}
    made = []
    for word in ("one", "two", "three"):
        thread = (await client.threads.create(metadata=mark))["thread_id"]
        await client.runs.wait(thread, "echo", input={"value": word})
        made.append(thread)
    waiting = (await client.threads.create(metadata=mark))["thread_id"]
    await client.runs.wait(waiting, "ask", input={})

    async def search(**asked: Any) -> list[str]:
        return [row["thread_id"] for row in await client.threads.search(metadata=mark, **asked)]

    assert await search() == [waiting, *made[::-1]]  # the last changed first
    assert await search(status="interrupted") == [waiting]
    assert await search(values={"value": "two"}) == [made[1]]
    assert await search(sort_by="created_at", sort_order="asc", limit=2, offset=1) == made[1:3]
    assert await search(ids=[made[0], str(uuid4())]) == [made[0]]
    assert await client.threads.count(metadata=mark, status="idle") == 3
    assert await client.threads.count(metadata=mark, values={"value": "two"}) == 1
    # A list of conversations needs the title and the graph without reading a checkpoint.
    row = (await client.threads.search(metadata=mark | {"graph_id": "ask"}))[0]
    assert row["values"] == {"log": ["before"]}
    assert row["metadata"]["assistant_id"]

    body = {
        "metadata": mark,
        "limit": 3,
        "select": ["thread_id"],
        "extract": {"first": "values.log[0]", "last": "values.log[-1]", "none": "values.no.such[3]"},
    }
    answer = await http.post("/threads/search", json=body)
    assert (answer.headers["x-pagination-total"], answer.headers["x-pagination-next"]) == ("4", "3")
    assert answer.json()[0] == {
        "thread_id": waiting,
        "extracted": {"first": "before", "last": "before", "none": None},
    }
    rest = await http.post("/threads/search", json=body | {"offset": 3})
    assert len(rest.json()) == 1
    assert "x-pagination-next" not in rest.headers
    wrong = await http.post("/threads/search", json={"extract": {"x": "secrets.a"}})
    assert wrong.status_code == 422
    assert "must start with one of: config, interrupts, metadata, values" in wrong.json()["detail"]


async def test_a_copy_has_the_state_and_the_history_and_goes_its_own_way(client: LangGraphClient) -> None:
    thread = await after(client, "ask", {})
    copy = (await client.http.post(f"/threads/{thread}/copy", json=None))["thread_id"]
    row, original = await client.threads.get(copy), await client.threads.get(thread)
    for field in ("values", "status", "interrupts", "metadata"):
        assert row[field] == original[field]
    old, new = await client.threads.get_history(thread), await client.threads.get_history(copy)
    assert [state["values"] for state in new] == [state["values"] for state in old]
    assert {state["checkpoint"]["thread_id"] for state in new} == {copy}
    assert {state["metadata"]["thread_id"] for state in new} == {copy}

    await client.runs.wait(copy, "ask", command={"resume": "a"})
    done: Any = await client.runs.wait(copy, "ask", command={"resume": "b"})
    assert done["log"] == ["before", "a", "b", "after"]
    assert await client.threads.get_history(thread) == old
    await client.threads.delete(copy)
    assert await client.threads.get_history(thread) == old


async def test_copying_nobody_is_404(http: httpx.AsyncClient) -> None:
    assert (await http.post(f"/threads/{uuid4()}/copy")).status_code == 404


async def test_history_takes_every_form_of_a_bound(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    thread = await after(client, "line", {})
    await client.runs.wait(thread, "line", input={})
    states = (await http.post(f"/threads/{thread}/history", json={"limit": 100})).json()
    assert len(states) == 8
    assert states[-1]["parent_checkpoint"] is None
    for newer, older in zip(states, states[1:], strict=False):
        assert newer["parent_checkpoint"]["checkpoint_id"] == older["checkpoint"]["checkpoint_id"]
        assert newer["checkpoint"]["thread_id"] == thread
    third = states[2]["checkpoint"]
    bounds = [third["checkpoint_id"], third, {"checkpoint_id": third["checkpoint_id"]}, {"configurable": third}]
    for bound in bounds:
        answer = await http.post(f"/threads/{thread}/history", json={"limit": 100, "before": bound})
        assert answer.json() == states[3:], bound
    by_get = await http.get(f"/threads/{thread}/history?limit=2&before={third['checkpoint_id']}")
    assert by_get.json() == states[3:5]
    inputs = (await http.post(f"/threads/{thread}/history", json={"metadata": {"source": "input"}})).json()
    assert [state["metadata"]["source"] for state in inputs] == ["input", "input"]
    # A checkpoint with no id names the thread only.
    named = await http.post(f"/threads/{thread}/history", json={"checkpoint": {"thread_id": thread}})
    assert named.json() == states
    assert (await http.get(f"/threads/{uuid4()}/history")).status_code == 404
    assert len((await http.get(f"/threads/{thread}/history")).json()) == 8


async def test_a_state_is_read_now_and_at_a_checkpoint(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    thread = await after(client, "line", {})
    now = await client.threads.get_state(thread)
    assert (now["values"], now["next"]) == ({"log": ["one", "two"]}, [])
    earlier = (await client.threads.get_history(thread))[1]
    place = earlier["checkpoint"]
    assert await client.threads.get_state(thread, checkpoint=place) == earlier
    assert await client.threads.get_state(thread, checkpoint_id=place["checkpoint_id"]) == earlier
    latest = await http.post(f"/threads/{thread}/state/checkpoint", json={"checkpoint": {"thread_id": thread}})
    assert latest.json() == now
    unknown = str(uuid4())
    made_up = await http.get(f"/threads/{thread}/state/{unknown}")
    assert made_up.status_code == 200
    assert made_up.json()["values"] in ({}, {"log": []})
    assert (await http.get(f"/threads/{uuid4()}/state")).status_code == 404


async def test_the_state_of_a_subgraph_is_shown_when_asked_for(client: LangGraphClient) -> None:
    thread = await after(client, "parent", {})
    plain = await client.threads.get_state(thread)
    assert plain["next"] == ["sub"]
    deep = await client.threads.get_state(thread, subgraphs=True)
    inner = deep["tasks"][0]["state"]
    assert inner["values"]["log"] == ["outer", "inner"]
    assert inner["next"] == ["ask"]
    place = plain["tasks"][0]["checkpoint"]
    alone = await client.threads.get_state(thread, checkpoint=place)
    assert alone["values"] == inner["values"]


async def test_an_update_is_a_checkpoint_and_the_row_follows(client: LangGraphClient) -> None:
    thread = await after(client, "line", {})
    before = await client.threads.get_state(thread)
    made = await client.threads.update_state(thread, {"log": ["told"]}, as_node="one")
    assert made["checkpoint"] == made["configurable"]
    assert made["checkpoint_id"] == made["checkpoint"]["checkpoint_id"]
    state = await client.threads.get_state(thread)
    assert (state["values"]["log"], state["next"]) == (["one", "two", "told"], ["two"])
    assert state["parent_checkpoint"] == before["checkpoint"]
    assert state["metadata"]["source"] == "update"
    row = await client.threads.get(thread)
    assert (row["status"], row["values"]) == ("interrupted", state["values"])
    assert (await client.runs.wait(thread, "line", input=None))["log"] == ["one", "two", "told", "two"]
    await client.threads.update_state(thread, {"log": ["last"]})  # as the node that acted last
    assert (await client.threads.get_state(thread))["next"] == []
    assert (await client.threads.get(thread))["status"] == "idle"
    await client.threads.update_state(thread, [{"log": ["x"]}, {"log": ["y"]}], as_node="two")
    assert (await client.threads.get_state(thread))["values"]["log"][-2:] == ["x", "y"]


async def test_an_update_that_cannot_be_changes_nothing(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    thread = await after(client, "line", {})
    before = await client.threads.get_history(thread)
    unknown = await http.post(f"/threads/{thread}/state", json={"values": {}, "as_node": "no-such-node"})
    assert unknown.status_code == 400
    assert "no-such-node" in unknown.json()["detail"]
    assert await client.threads.get_history(thread) == before
    fresh = (await client.threads.create())["thread_id"]
    without = await http.post(f"/threads/{fresh}/state", json={"values": {"log": ["x"]}})
    assert without.status_code == 400
    assert "graph" in without.json()["detail"]
    run = await client.runs.create(thread, "steps", input={"left": 1, "gate": "/nowhere"})
    await until_status(client, thread, run["run_id"], "running")
    busy = await http.post(f"/threads/{thread}/state", json={"values": {"log": ["x"]}})
    assert busy.status_code == 409
    await client.runs.cancel(thread, run["run_id"], wait=True)


async def test_a_fork_is_a_sibling_that_runs_again_from_there(client: LangGraphClient) -> None:
    thread = await after(client, "line", {})
    history = await client.threads.get_history(thread)
    base = next(state for state in history if state["next"] == ["two"])
    made = await client.threads.update_state(
        thread, None, as_node="__copy__", checkpoint_id=base["checkpoint"]["checkpoint_id"]
    )
    fork = await client.threads.get_state(thread)
    assert fork["checkpoint"]["checkpoint_id"] == made["checkpoint_id"]
    assert fork["parent_checkpoint"] == base["parent_checkpoint"]
    assert (fork["values"], fork["next"]) == (base["values"], ["two"])
    assert (await client.threads.get(thread))["status"] == "interrupted"
    done: Any = await client.runs.wait(thread, "line", input=None, checkpoint=made["checkpoint"])
    assert done["log"] == ["one", "two"]


async def test_ending_a_thread_by_hand_clears_what_is_next(client: LangGraphClient) -> None:
    thread = await after(client, "ask", {})
    await client.threads.update_state(thread, None, as_node="__end__")
    row = await client.threads.get(thread)
    assert (row["status"], row["interrupts"]) == ("idle", {})
    assert (await client.threads.get_state(thread))["next"] == []


async def test_a_change_at_an_older_checkpoint_is_a_branch(client: LangGraphClient) -> None:
    thread = await after(client, "line", {})
    base = (await client.threads.get_history(thread))[1]
    made = await client.threads.update_state(thread, {"log": ["branch"]}, as_node="one", checkpoint=base["checkpoint"])
    state = await client.threads.get_state(thread, checkpoint=made["checkpoint"])
    assert state["parent_checkpoint"] == base["checkpoint"]
    assert state["values"]["log"] == [*base["values"]["log"], "branch"]
    parents = [state["parent_checkpoint"] for state in await client.threads.get_history(thread)]
    assert parents.count(base["checkpoint"]) == 2


async def test_a_thread_may_be_born_with_a_history(client: LangGraphClient) -> None:
    made = await client.threads.create(
        graph_id="line",
        supersteps=[
            {"updates": [{"values": {"log": ["in"]}, "as_node": "__input__"}]},
            {"updates": [{"values": {"log": ["in"]}, "as_node": "__start__"}]},
            {"updates": [{"values": {"log": ["first"]}, "as_node": "one"}]},
        ],
    )
    states = await client.threads.get_history(made["thread_id"])
    assert (states[-1]["metadata"]["source"], states[-1]["metadata"]["step"]) == ("input", -1)
    assert (states[0]["values"]["log"], states[0]["next"]) == (["in", "first"], ["two"])
    row = await client.threads.get(made["thread_id"])
    assert (row["status"], row["values"]) == ("interrupted", {"log": ["in", "first"]})
    done: Any = await client.runs.wait(made["thread_id"], "line", input=None)
    assert done["log"] == ["in", "first", "two"]


async def test_a_refused_history_makes_no_thread(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    wanted = str(uuid4())
    body = {
        "thread_id": wanted,
        "metadata": {"graph_id": "line"},
        "supersteps": [{"updates": [{"values": {}, "as_node": "no-such-node"}]}],
    }
    assert (await http.post("/threads", json=body)).status_code == 400
    assert (await http.get(f"/threads/{wanted}")).status_code == 404


async def test_deleting_a_busy_thread_stops_its_run(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    thread = str((await client.threads.create())["thread_id"])
    run = await client.runs.create(thread, "steps", input={"left": 1, "gate": "/nowhere"})
    await until_status(client, thread, run["run_id"], "running")
    join = asyncio.create_task(http.get(f"/threads/{thread}/runs/{run['run_id']}/join"))
    await client.threads.delete(thread)
    assert (await http.get(f"/threads/{thread}")).status_code == 404
    assert (await asyncio.wait_for(join, 10)).status_code in (200, 404)


async def test_metadata_may_be_patched_through_the_state_path(http: httpx.AsyncClient) -> None:
    thread = (await http.post("/threads", json={"metadata": {"a": 1}})).json()["thread_id"]
    assert (await http.patch(f"/threads/{thread}/state", json={"metadata": {"b": 2}})).status_code == 200
    assert (await http.get(f"/threads/{thread}")).json()["metadata"] == {"a": 1, "b": 2}


async def test_what_comes_later_is_refused_by_name(http: httpx.AsyncClient) -> None:
    for method, path, body in [("POST", "/threads", {"ttl": 5}), ("GET", f"/threads/{uuid4()}?include=ttl", None)]:
        answer = await http.request(method, path, json=body)
        assert answer.status_code == 422
        assert "ttl" in answer.json()["detail"]


def test_the_synchronous_client_does_the_same(server: Server) -> None:
    with get_sync_client(url=server.url, api_key=None) as client:
        thread = client.threads.create(metadata={"by": str(uuid4())})
        client.runs.wait(thread["thread_id"], "line", input={})
        client.threads.update_state(thread["thread_id"], {"log": ["x"]}, as_node="two")
        assert client.threads.get_state(thread["thread_id"])["values"]["log"] == ["one", "two", "x"]
        found = client.threads.search(metadata=thread["metadata"])
        assert [row["thread_id"] for row in found] == [thread["thread_id"]]
        assert len(client.threads.get_history(thread["thread_id"])) == 5
