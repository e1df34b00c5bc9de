"""Thread states over HTTP, with the official client where it has a method."""

from __future__ import annotations

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from heddle_core.domain.json import JsonObject
from heddle_core.ports.graph_runtime import StateUpdate
from tests.support.thread_world import ThreadWorld, http, world

__all__ = ["http", "world"]

CHECKPOINT = "1ef4a9b8-e6fb-67b1-8001-abd5184439d1"
OTHER = "1ef4a9b8-d80d-6fa7-8000-9300467fad0f"


@pytest.fixture
async def thread_id(http: httpx.AsyncClient) -> str:
    made: str = (await http.post("/threads", json={"metadata": {"graph_id": "echo"}})).json()["thread_id"]
    return made


async def test_a_thread_without_a_graph_has_an_empty_state(http: httpx.AsyncClient) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    empty: JsonObject = {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": None,
        "created_at": None,
        "checkpoint": None,
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": None,
        "parent_checkpoint_id": None,
    }

    assert (await http.get(f"/threads/{thread_id}/state")).json() == empty
    assert (await http.get(f"/threads/{thread_id}/history")).json() == []
    unknown = (await http.get(f"/threads/{thread_id}/state/{CHECKPOINT}")).json()
    reference = {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": CHECKPOINT}
    assert unknown == empty | {"checkpoint": reference, "checkpoint_id": CHECKPOINT}


async def test_the_sdk_updates_and_reads_the_state(http: httpx.AsyncClient, thread_id: str) -> None:
    sdk = LangGraphClient(http)

    updated = await sdk.threads.update_state(thread_id, {"a": 1}, as_node="node")

    assert updated["checkpoint"]["thread_id"] == thread_id
    assert updated["configurable"] == updated["checkpoint"]  # type: ignore[typeddict-item]
    assert updated["checkpoint_id"] == updated["checkpoint"]["checkpoint_id"]  # type: ignore[typeddict-item]
    assert (await sdk.threads.get_state(thread_id))["values"] == {"a": 1}
    assert (await sdk.threads.get(thread_id))["values"] == {"a": 1}


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"thread_id": OTHER}, None),
        ({}, None),
        ({"checkpoint_id": CHECKPOINT.upper()}, {"checkpoint_id": CHECKPOINT}),
        ({"checkpoint_id": CHECKPOINT, "checkpoint_ns": ""}, {"checkpoint_id": CHECKPOINT, "checkpoint_ns": ""}),
        ({"configurable": {"checkpoint_id": CHECKPOINT}}, {"checkpoint_id": CHECKPOINT}),
        ({"checkpoint_ns": "n:1", "checkpoint_map": {"": "x"}}, {"checkpoint_ns": "n:1", "checkpoint_map": {"": "x"}}),
    ],
)
async def test_a_checkpoint_without_an_id_is_the_latest(
    http: httpx.AsyncClient, world: ThreadWorld, thread_id: str, given: object, asked: object
) -> None:
    body = {"checkpoint": given, "subgraphs": True}
    answer = await http.post(f"/threads/{thread_id}/state/checkpoint", json=body)

    assert answer.status_code == 200
    assert world.states.asked[-1][2:] == (asked, True)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (CHECKPOINT, {"checkpoint_id": CHECKPOINT}),
        ({"checkpoint_id": CHECKPOINT}, {"checkpoint_id": CHECKPOINT}),
        ({"configurable": {"checkpoint_id": CHECKPOINT, "thread_id": "t"}}, {"checkpoint_id": CHECKPOINT}),
        ({"thread_id": "t"}, None),
        (None, None),
    ],
)
async def test_history_takes_every_form_of_before(
    http: httpx.AsyncClient, world: ThreadWorld, thread_id: str, given: object, asked: object
) -> None:
    body = {"limit": 3, "before": given, "metadata": {"step": 1}, "checkpoint": {"checkpoint_ns": "sub"}}
    answer = await http.post(f"/threads/{thread_id}/history", json=body)

    assert len(answer.json()) == 3
    bounds = {"limit": 3, "before": asked, "metadata": {"step": 1}, "checkpoint": {"checkpoint_ns": "sub"}}
    assert world.states.asked[-1][2] == bounds


async def test_history_by_get(http: httpx.AsyncClient, world: ThreadWorld, thread_id: str) -> None:
    answer = await http.get(f"/threads/{thread_id}/history", params={"before": CHECKPOINT})

    assert len(answer.json()) == 10
    bounds = {"limit": 10, "before": {"checkpoint_id": CHECKPOINT}, "metadata": None, "checkpoint": None}
    assert world.states.asked[-1][2] == bounds


@pytest.mark.parametrize(
    ("select", "sent"),
    [
        (["next"], {"next": ["n"]}),
        (["values.a"], {"values": {"a": 1}}),
        (["values.a", "values"], {"values": {"a": 1, "b": 2}}),
        (["values.nope", "next"], {"values": {}, "next": ["n"]}),
        ([], {"values": {"a": 1, "b": 2}, "next": ["n"]}),
    ],
)
async def test_select_chooses_fields_and_keys_of_the_values(
    http: httpx.AsyncClient, thread_id: str, select: list[str], sent: object
) -> None:
    answer = await http.post(f"/threads/{thread_id}/history", json={"limit": 1, "select": select})
    assert answer.json() == [sent]


@pytest.mark.parametrize(
    ("body", "base", "steps"),
    [
        ({"values": {"a": 1}}, None, [{"values": {"a": 1}}]),
        (
            {"values": [{"a": 1}, {"b": 2}], "as_node": "n"},
            None,
            [{"values": {"a": 1}, "as_node": "n"}, {"values": {"b": 2}, "as_node": "n"}],
        ),
        (
            {"values": None, "as_node": "__copy__", "checkpoint_id": CHECKPOINT},
            {"checkpoint_id": CHECKPOINT},
            [{"as_node": "__copy__"}],
        ),
        ({"as_node": "__end__"}, None, [{"as_node": "__end__"}]),
        (
            {"values": {}, "checkpoint": {"checkpoint_id": CHECKPOINT, "checkpoint_ns": "s"}, "checkpoint_id": OTHER},
            {"checkpoint_id": CHECKPOINT, "checkpoint_ns": "s"},
            [{"values": {}}],
        ),
        ({"values": {"nul": "a\0b"}}, None, [{"values": {"nul": "a\0b"}}]),
    ],
)
async def test_an_update_reaches_the_graph_as_it_was_meant(
    http: httpx.AsyncClient,
    world: ThreadWorld,
    thread_id: str,
    body: object,
    base: object,
    steps: list[dict[str, object]],
) -> None:
    world.states.shows_values = False

    assert (await http.post(f"/threads/{thread_id}/state", json=body)).status_code == 200

    _, _, asked_base, updates = world.states.asked[-1]
    assert asked_base == base
    assert updates == tuple((StateUpdate(**step),) for step in steps)  # type: ignore[arg-type]


async def test_the_status_follows_an_update(http: httpx.AsyncClient, thread_id: str) -> None:
    for as_node, status in [("ask", "interrupted"), ("node", "idle")]:
        await http.post(f"/threads/{thread_id}/state", json={"values": {}, "as_node": as_node})
        assert (await http.get(f"/threads/{thread_id}")).json()["status"] == status


async def test_a_minimal_update_has_no_body(http: httpx.AsyncClient, thread_id: str) -> None:
    headers = {"Prefer": "return=minimal"}
    answer = await http.post(f"/threads/{thread_id}/state", json={"values": {}}, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")


async def test_updates_that_cannot_be(http: httpx.AsyncClient, world: ThreadWorld, thread_id: str) -> None:
    answer = await http.post(f"/threads/{thread_id}/state", json={"values": {}, "as_node": "nowhere"})
    assert (answer.status_code, answer.json()) == (400, {"detail": "Node nowhere does not exist"})

    bare = (await http.post("/threads", json={})).json()["thread_id"]
    answer = await http.post(f"/threads/{bare}/state", json={"values": {}})
    assert answer.status_code == 400
    assert "metadata.graph_id" in answer.json()["detail"]

    await world.a_run((await http.get(f"/threads/{thread_id}")).json()["thread_id"])
    answer = await http.post(f"/threads/{thread_id}/state", json={"values": {}})
    assert answer.status_code == 409


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/state", {"values": "x"}),
        ("POST", "/state", {"values": []}),
        ("POST", "/state", {"values": [1]}),
        ("POST", "/state", {"values": {}, "checkpoint_id": "x"}),
        ("POST", "/state", {"values": {}, "checkpoint": "x"}),
        ("POST", "/state", {"values": {}, "as_node": 1}),
        ("POST", "/state/checkpoint", {}),
        ("POST", "/state/checkpoint", {"checkpoint": None}),
        ("POST", "/state/checkpoint", {"checkpoint": {"checkpoint_ns": "\0"}}),
        ("POST", "/state/checkpoint", {"checkpoint": {"checkpoint_map": {"": "\0"}}}),
        ("POST", "/state/checkpoint", {"checkpoint": {}, "select": ["nope"]}),
        ("POST", "/history", {"before": "x"}),
        ("POST", "/history", {"before": 1}),
        ("POST", "/history", {"limit": 0}),
        ("POST", "/history", {"metadata": {"a": "\0"}}),
        ("POST", "/history", {"select": ["values."]}),
        ("GET", "/history?limit=0", None),
        ("GET", "/history?before=x", None),
        ("GET", "/state/x", None),
        ("GET", "/state/%00", None),
        ("GET", "/state?subgraphs=x", None),
        ("GET", "/state?select=x", None),
        ("PATCH", "/state", {"metadata": {"a": "\0"}}),
    ],
)
async def test_bad_requests_are_invalid(
    http: httpx.AsyncClient, thread_id: str, method: str, path: str, body: object
) -> None:
    answer = await http.request(method, f"/threads/{thread_id}{path}", json=body)
    assert answer.status_code == 422, answer.text
    assert isinstance(answer.json()["detail"], str)
