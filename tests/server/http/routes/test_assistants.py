"""Assistants over HTTP, on a real database."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from heddle_core.domain.ids import AssistantId, system_assistant_id
from heddle_core.domain.run import CancelAction, RunStatus
from heddle_core.ports.graph_runtime import GraphInfo
from heddle_core.usecases.assistants import ensure_system_assistants
from tests.support.assistant_world import World, client, shared_database, world

__all__ = ["client", "shared_database", "world"]


async def create(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/assistants", json={"graph_id": "agent", **body})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_new_assistant_has_the_defaults(client: httpx.AsyncClient) -> None:
    made = await create(client)
    assert UUID(made["assistant_id"]).version == 4
    assert made["created_at"].endswith("+00:00")
    assert {**made, "assistant_id": 0, "created_at": 0, "updated_at": 0} == {
        "assistant_id": 0,
        "graph_id": "agent",
        "name": "Untitled",
        "description": None,
        "config": {},
        "context": {},
        "metadata": {},
        "version": 1,
        "created_at": 0,
        "updated_at": 0,
    }
    assert (await client.get(f"/assistants/{made['assistant_id']}")).json() == made


async def test_null_counts_as_absent_and_unknown_fields_are_ignored(client: httpx.AsyncClient) -> None:
    made = await create(client, name=None, config=None, context=None, if_exists=None, metadata=None, whatever=[1])
    assert made["name"] == "Untitled"


async def test_configurable_and_context_mirror_each_other(client: httpx.AsyncClient) -> None:
    by_config = await create(client, config={"tags": ["t"], "recursion_limit": 7, "configurable": {"m": "x"}})
    assert by_config["context"] == {"m": "x"}
    assert by_config["config"] == {"tags": ["t"], "recursion_limit": 7, "configurable": {"m": "x"}}
    by_context = await create(client, context={"m": "y"})
    assert by_context["config"] == {"configurable": {"m": "y"}}
    both = {"graph_id": "agent", "config": {"configurable": {"m": 1}}, "context": {"m": 1}}
    refused = await client.post("/assistants", json=both)
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("Cannot specify both configurable and context.")


async def test_an_id_that_is_taken_is_a_conflict_unless_the_existing_one_is_wanted(client: httpx.AsyncClient) -> None:
    wanted = str(uuid4())
    made = await create(client, assistant_id=wanted, name="mine")
    again = await client.post("/assistants", json={"graph_id": "agent", "assistant_id": wanted})
    assert again.status_code == 409
    assert await create(client, assistant_id=wanted, name="other", if_exists="do_nothing") == made


async def test_two_creators_of_one_id_both_get_the_one_that_is_there(client: httpx.AsyncClient) -> None:
    wanted = str(uuid4())
    body = {"assistant_id": wanted, "if_exists": "do_nothing"}
    answers = await asyncio.gather(*(create(client, name=str(n), **body) for n in range(6)))
    assert len({answer["name"] for answer in answers}) == 1


async def test_a_patch_makes_a_version_that_latest_can_take_back_whole(client: httpx.AsyncClient) -> None:
    made = await create(client, context={"n": 1}, metadata={"a": 1, "b": 1}, name="one", description="d")
    path = f"/assistants/{made['assistant_id']}"
    patch = {"name": "two", "context": {"n": 2}, "metadata": {"b": 2}, "graph_id": "simple"}
    patched = (await client.patch(path, json=patch)).json()
    assert patched["version"] == 2
    assert patched["metadata"] == {"a": 1, "b": 2}
    assert patched["config"] == {"configurable": {"n": 2}}
    assert (patched["description"], patched["graph_id"]) == ("d", "simple")
    assert patched["created_at"] == made["created_at"]
    assert patched["updated_at"] > made["updated_at"]

    back = (await client.post(f"{path}/latest", json={"version": 1})).json()
    assert {**back, "updated_at": 0} == {**made, "updated_at": 0}
    assert (await client.patch(path, json={})).json()["version"] == 3

    versions = (await client.post(f"{path}/versions", json={})).json()
    assert [version["version"] for version in versions] == [3, 2, 1]
    assert "updated_at" not in versions[0]
    second = (await client.post(f"{path}/versions", json={"limit": 1, "offset": 1, "metadata": {"b": 2}})).json()
    assert second == []

    missing = await client.post(f"{path}/latest", json={"version": 99})
    assert missing.status_code == 404
    assert missing.json() == {"detail": f"Version 99 not found for assistant {made['assistant_id']}"}


@pytest.mark.parametrize("prefer", ["return=minimal", "respond-async, Return=Minimal"])
async def test_a_patch_is_answered_with_nothing_on_request(client: httpx.AsyncClient, prefer: str) -> None:
    made = await create(client)
    path = f"/assistants/{made['assistant_id']}"
    answer = await client.patch(path, json={"name": "new"}, headers={"Prefer": prefer})
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.get(path)).json()["name"] == "new"


async def test_a_search_pages_with_the_exact_total(client: httpx.AsyncClient) -> None:
    made = [await create(client, name=f"n{n}", metadata={"odd": n % 2 == 1}) for n in range(5)]
    newest_first = [each["assistant_id"] for each in reversed(made)]

    first = await client.post("/assistants/search", json={"limit": 2})
    assert [each["assistant_id"] for each in first.json()] == newest_first[:2]
    assert first.headers["x-pagination-total"] == "5"
    assert first.headers["x-pagination-next"] == "2"
    last = await client.post("/assistants/search", json={"limit": 2, "offset": 3})
    assert [each["assistant_id"] for each in last.json()] == newest_first[3:]
    assert last.headers["x-pagination-total"] == "5"
    assert "x-pagination-next" not in last.headers
    beyond = await client.post("/assistants/search", json={"offset": 50})
    assert (beyond.json(), beyond.headers["x-pagination-total"]) == ([], "5")
    assert "x-pagination-next" not in beyond.headers

    odd = {"metadata": {"odd": True}, "sort_by": "name", "sort_order": "asc", "select": ["name", "version"]}
    chosen = await client.post("/assistants/search", json=odd)
    assert chosen.json() == [{"name": "n1", "version": 1}, {"name": "n3", "version": 1}]
    assert (await client.post("/assistants/count", json={"metadata": {"odd": True}})).json() == 2
    assert (await client.post("/assistants/count", json={"name": "N4"})).json() == 1
    assert (await client.post("/assistants/count", json={"graph_id": "simple"})).json() == 0


async def test_the_official_client_manages_assistants(client: httpx.AsyncClient) -> None:
    sdk = LangGraphClient(client).assistants
    made = await sdk.create("agent", context={"n": 1}, metadata={"team": "x"}, name="one", description="d")
    ref = made["assistant_id"]
    assert (await sdk.update(ref, name="two"))["version"] == 2
    assert [version["name"] for version in await sdk.get_versions(ref)] == ["two", "one"]
    assert (await sdk.set_latest(ref, 1))["name"] == "one"
    assert [found["assistant_id"] for found in await sdk.search(metadata={"team": "x"}, select=["assistant_id"])] == [
        ref
    ]
    assert await sdk.count(name="ON") == 1
    assert "nodes" in await sdk.get_graph(ref, xray=2)
    await sdk.delete(ref, delete_threads=True)
    assert await sdk.count() == 0


async def test_each_graph_gets_its_assistant_once(client: httpx.AsyncClient, world: World) -> None:
    await asyncio.gather(*(ensure_system_assistants(world.ports) for _ in range(4)))
    path = f"/assistants/{system_assistant_id('agent')}"
    agent = (await client.get(path)).json()
    assert (agent["name"], agent["description"], agent["metadata"]) == ("agent", "answers", {"created_by": "system"})
    found = await client.post("/assistants/search", json={"metadata": {"created_by": "system"}})
    assert {each["graph_id"] for each in found.json()} == {"agent", "simple"}

    await client.patch(path, json={"context": {"kept": True}})
    await ensure_system_assistants(world.ports)
    assert (await client.get(path)).json()["context"] == {"kept": True}

    refused = await client.delete(path)
    assert refused.status_code == 409
    assert "belongs to the server" in refused.json()["detail"]


async def test_an_assistant_that_only_calls_itself_systemic_can_be_deleted(client: httpx.AsyncClient) -> None:
    made = await create(client, metadata={"created_by": "system"})
    assert (await client.delete(f"/assistants/{made['assistant_id']}")).status_code == 204


async def test_deleting_cancels_the_runs_in_flight_and_keeps_the_threads(
    client: httpx.AsyncClient, world: World
) -> None:
    mine = AssistantId(UUID((await create(client))["assistant_id"]))
    other = AssistantId(UUID((await create(client))["assistant_id"]))
    threads = [await world.add_thread(mine) for _ in range(2)]
    running = await world.add_run(threads[0], mine, RunStatus.RUNNING)
    pending = await world.add_run(threads[1], mine, RunStatus.PENDING)
    foreign = await world.add_run(threads[1], other, RunStatus.PENDING)

    assert (await client.delete(f"/assistants/{mine}")).status_code == 204
    assert (await client.delete(f"/assistants/{mine}")).status_code == 404
    rows = await world.execute("SELECT run_id, status, cancel_action FROM heddle.run")
    assert {row.run_id: (row.status, row.cancel_action) for row in rows} == {
        running: ("running", "interrupt"),
        pending: ("interrupted", None),
        foreign: ("pending", None),
    }
    assert world.notes.cancelled == [(running, CancelAction.INTERRUPT)]
    assert len(await world.execute("SELECT 1 FROM heddle.thread")) == 2


async def test_deleting_with_threads_removes_those_that_name_it(client: httpx.AsyncClient, world: World) -> None:
    mine = AssistantId(UUID((await create(client))["assistant_id"]))
    named = await world.add_thread(mine)
    unnamed = await world.add_thread()
    running = await world.add_run(named, mine, RunStatus.RUNNING)

    assert (await client.delete(f"/assistants/{mine}?delete_threads=true")).status_code == 204
    assert [row.thread_id for row in await world.execute("SELECT thread_id FROM heddle.thread")] == [unnamed]
    assert await world.execute("SELECT 1 FROM heddle.run") == []
    assert world.notes.cancelled == [(running, CancelAction.ROLLBACK)]


async def test_the_cache_hears_of_changes_and_removal(client: httpx.AsyncClient, world: World) -> None:
    made = await create(client)
    ref = made["assistant_id"]
    cache = world.ports.assistants
    assert (await cache.get(ref)).version == 1
    await client.patch(f"/assistants/{ref}", json={"name": "new"})
    assert (await cache.get(ref)).name == "new"
    await client.post(f"/assistants/{ref}/latest", json={"version": 1})
    assert (await cache.get(ref)).name == "Untitled"
    await client.delete(f"/assistants/{ref}")
    await create(client, assistant_id=ref, name="another life")
    assert (await cache.get(ref)).name == "another life"


@pytest.mark.parametrize(
    ("xray", "depth"),
    [("", False), ("?xray=true", True), ("?xray=False", False), ("?xray=0", False), ("?xray=2", 2), ("?xray=1", 1)],
)
async def test_a_graph_is_drawn_by_graph_id_and_by_assistant_id(
    client: httpx.AsyncClient, world: World, xray: str, depth: bool | int
) -> None:
    await ensure_system_assistants(world.ports)
    made = await create(client, graph_id="simple", context={"n": 1})
    by_name = (await client.get(f"/assistants/agent/graph{xray}")).json()
    assert by_name["nodes"][0]["data"] == {"graph": "agent", "config": {}, "xray": depth}
    assert type(by_name["nodes"][0]["data"]["xray"]) is type(depth)
    by_id = (await client.get(f"/assistants/{made['assistant_id']}/graph{xray}")).json()
    assert by_id["nodes"][0]["data"]["config"] == {"configurable": {"n": 1}}


@pytest.mark.parametrize("xray", ["yes", "-1", "1.5", "%20", "²", "9" * 400])
async def test_an_xray_that_is_no_depth_is_refused(client: httpx.AsyncClient, world: World, xray: str) -> None:
    await ensure_system_assistants(world.ports)
    answer = await client.get(f"/assistants/agent/graph?xray={xray}")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("Invalid xray value")


async def test_schemas_and_subgraphs_take_a_graph_id(client: httpx.AsyncClient, world: World) -> None:
    await ensure_system_assistants(world.ports)
    assert (await client.get("/assistants/agent/schemas")).json() == {"graph_id": "agent"}
    assert (await client.get("/assistants/agent/subgraphs?recurse=true")).json() == {
        "graph": "agent",
        "namespace": None,
        "recurse": True,
    }
    assert (await client.get("/assistants/agent/subgraphs/a|b")).json()["namespace"] == "a|b"


async def test_an_assistant_of_a_graph_that_is_gone_can_be_renamed_but_not_drawn(
    client: httpx.AsyncClient, world: World
) -> None:
    world.catalog.graphs["passing"] = GraphInfo(graph_id="passing", description=None)
    await ensure_system_assistants(world.ports)
    del world.catalog.graphs["passing"]
    path = f"/assistants/{system_assistant_id('passing')}"
    assert (await client.patch(path, json={"name": "old"})).status_code == 200
    assert (await client.get(f"{path}/graph")).json() == {"detail": "Graph 'passing' not found"}
    assert (await client.delete(path)).status_code == 204


MISSING = "0b4c1c1e-7f6e-4a53-9a0e-3f5b7d1c9a11"
BAD: list[tuple[str, str, Any, int]] = [
    ("GET", "/assistants/agent", None, 422),
    ("GET", "/assistants/%00", None, 422),
    ("GET", f"/assistants/{MISSING}", None, 404),
    ("PATCH", f"/assistants/{MISSING}", {}, 404),
    ("PATCH", "/assistants/x", {}, 422),
    ("DELETE", f"/assistants/{MISSING}", None, 404),
    ("DELETE", "/assistants/x", None, 422),
    ("POST", f"/assistants/{MISSING}/versions", {}, 404),
    ("POST", f"/assistants/{MISSING}/latest", {"version": 1}, 404),
    ("POST", f"/assistants/{MISSING}/latest", {"version": "1"}, 422),
    ("POST", f"/assistants/{MISSING}/latest", {"version": 2**40}, 422),
    ("POST", f"/assistants/{MISSING}/latest", {}, 422),
    ("GET", f"/assistants/{MISSING}/graph", None, 404),
    ("GET", "/assistants/nobody/graph", None, 422),
    ("GET", "/assistants/nobody/schemas", None, 422),
    ("GET", "/assistants/nobody/subgraphs/x", None, 422),
    ("POST", "/assistants", {}, 422),
    ("POST", "/assistants", {"graph_id": 1}, 422),
    ("POST", "/assistants", {"graph_id": "nobody"}, 404),
    ("POST", "/assistants", {"graph_id": "\x00"}, 422),
    ("POST", "/assistants", {"graph_id": "x" * 100_000}, 404),
    ("POST", "/assistants", {"graph_id": "agent", "assistant_id": "x"}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "if_exists": "maybe"}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "name": "\x00"}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "description": "\ud800"}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "metadata": {"\x00": 1}}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "metadata": {"n": 10**30}}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "metadata": [1]}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "context": {"n": "\ud800"}}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "config": {"tags": "t"}}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "config": {"recursion_limit": 0}}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "config": {"recursion_limit": "5"}}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "config": {"configurable": {"a": ["\x00"]}}}, 422),
    ("POST", "/assistants", {"graph_id": "agent", "config": {"extra": "\x00"}}, 422),
    ("POST", "/assistants/search", {"limit": 0}, 422),
    ("POST", "/assistants/search", {"limit": 1001}, 422),
    ("POST", "/assistants/search", {"limit": True}, 422),
    ("POST", "/assistants/search", {"offset": -1}, 422),
    ("POST", "/assistants/search", {"offset": 2**63}, 422),
    ("POST", "/assistants/search", {"sort_by": "config"}, 422),
    ("POST", "/assistants/search", {"sort_order": "up"}, 422),
    ("POST", "/assistants/search", {"select": ["name", "secret"]}, 422),
    ("POST", "/assistants/search", {"metadata": {"a": "\x00"}}, 422),
    ("POST", "/assistants/search", {"name": "\x00"}, 422),
    ("POST", "/assistants/search", {"graph_id": "\ud800"}, 422),
    ("POST", "/assistants/count", {"name": ["x"]}, 422),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD, ids=lambda given: repr(given)[:50])
async def test_bad_requests_are_told_apart(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    content = None if body is None else json.dumps(body)
    answer = await client.request(method, path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["detail"], str)


async def test_a_patch_that_is_refused_changes_nothing(client: httpx.AsyncClient) -> None:
    made = await create(client)
    path = f"/assistants/{made['assistant_id']}"
    for body, status in (({"graph_id": "nobody"}, 404), ({"metadata": {"a": "\x00"}}, 422)):
        assert (await client.patch(path, json=body)).status_code == status
    assert (await client.get(path)).json() == made
