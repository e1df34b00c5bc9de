"""What chat interfaces send, request by request, and what they need to find in the answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.server import Server
from tests.system.sse import Frame, frames, stream


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        yield http


class Chat:
    """One conversation, as a chat interface keeps it: all it knows comes from the server's answers."""

    def __init__(self, http: httpx.AsyncClient, graph: str, thread: str) -> None:
        self.http, self.graph, self.thread = http, graph, thread

    @classmethod
    async def start(cls, http: httpx.AsyncClient, graph: str) -> Chat:
        assert (await http.get("/info", headers={"X-Api-Key": ""})).is_success
        made = await http.post("/threads", json={"metadata": {}})
        return cls(http, graph, made.json()["thread_id"])

    async def run(self, **body: Any) -> list[Frame]:
        """Send a run as the interface does, and read its stream to the end."""
        fixed = {
            "assistant_id": self.graph,
            "stream_mode": ["values", "messages-tuple", "custom"],
            "stream_subgraphs": True,
            "stream_resumable": True,
            "on_disconnect": "continue",
        }
        return await stream(self.http, "POST", f"/threads/{self.thread}/runs/stream", json=fixed | body)

    async def say(self, text: str, **more: Any) -> list[Frame]:
        return await self.run(input={"messages": [human(text)]}, **more)

    async def history(self) -> list[Any]:
        answer = await self.http.post(f"/threads/{self.thread}/history", json={"limit": 10})
        states: list[Any] = answer.json()
        return states

    async def head(self) -> dict[str, str]:
        place = (await self.history())[0]["checkpoint"]
        return {"checkpoint_id": place["checkpoint_id"], "checkpoint_ns": ""}

    async def row(self) -> Any:
        return (await self.http.get(f"/threads/{self.thread}")).json()


def human(text: str) -> dict[str, Any]:
    return {"id": str(uuid4()), "type": "human", "content": [{"type": "text", "text": text}]}


def texts(values: Any) -> list[str]:
    def text(content: Any) -> str:
        return content if isinstance(content, str) else "".join(block["text"] for block in content)

    return [text(message["content"]).strip() for message in values["messages"]]


def last_values(seen: list[Frame]) -> Any:
    return [frame.data for frame in seen if frame.event == "values"][-1]


async def test_a_message_its_answer_and_a_second_turn(http: httpx.AsyncClient) -> None:
    chat = await Chat.start(http, "chat")
    message = human("hello")
    seen = await chat.run(input={"messages": [message]})
    assert seen[0].event == "metadata"
    assert all(frame.id for frame in seen)
    values = last_values(seen)
    assert values["messages"][0]["id"] == message["id"]
    assert values["messages"][0]["content"] == message["content"]
    streamed = {frame.data[0]["id"] for frame in seen if frame.event == "messages"}
    assert streamed == {values["messages"][1]["id"]}  # or the answer would flicker or double

    again = last_values(await chat.say("more", checkpoint=await chat.head()))
    assert texts(again) == ["hello", "Polly wants a cracker", "more", "Polly wants a cracker"]
    assert len({each["id"] for each in again["messages"]}) == 4
    listed = await http.post("/threads/search", json={"metadata": {"graph_id": "chat"}, "limit": 100, "offset": 0})
    (row,) = [row for row in listed.json() if row["thread_id"] == chat.thread]
    assert row["values"]["messages"][0]["content"] == message["content"]  # the title
    by_assistant = {"metadata": {"assistant_id": row["metadata"]["assistant_id"]}, "limit": 100, "offset": 0}
    found = (await http.post("/threads/search", json=by_assistant)).json()
    assert chat.thread in [row["thread_id"] for row in found]


async def test_an_edited_message_is_a_branch_and_regenerating_is_another(http: httpx.AsyncClient) -> None:
    chat = await Chat.start(http, "chat")
    await chat.say("first")
    states = await chat.history()
    # The parent of the first state that held the message: what an edit starts from.
    holding = [state for state in states if "messages" in state["values"] and state["values"]["messages"]]
    base = holding[-1]["parent_checkpoint"]
    edited = last_values(await chat.say("second", checkpoint=base))
    assert texts(edited) == ["second", "Polly wants a cracker"]
    assert texts((await chat.row())["values"]) == ["second", "Polly wants a cracker"]

    # Regenerate the answer: the parent of the first state with the answer, and no input.
    states = await chat.history()
    answered = next(state for state in states if texts(state["values"]) == texts(edited))
    seen = await chat.run(checkpoint=answered["parent_checkpoint"])
    assert texts(last_values(seen)) == ["second", "Polly wants a cracker"]
    assert last_values(seen)["messages"][1]["id"] != edited["messages"][1]["id"]

    tree: dict[str | None, int] = {}
    for state in await chat.history():
        parent = (state["parent_checkpoint"] or {}).get("checkpoint_id")
        tree[parent] = tree.get(parent, 0) + 1
    assert tree[base["checkpoint_id"]] == 2 if base else tree[None] == 2
    assert tree[answered["parent_checkpoint"]["checkpoint_id"]] == 2
    assert None in tree  # a root without a parent


async def ask_for_approval(http: httpx.AsyncClient) -> Chat:
    chat = await Chat.start(http, "approval")
    seen = await chat.say("we ship today")
    (question,) = last_values(seen)["__interrupt__"]
    (request,) = question["value"]["action_requests"]
    assert set(request) == {"name", "args", "description"}
    (review,) = question["value"]["review_configs"]
    assert set(review) == {"action_name", "allowed_decisions"}
    state = (await chat.history())[0]
    assert state["tasks"][0]["interrupts"][0]["value"] == question["value"]
    assert (await chat.row())["status"] == "interrupted"
    return chat


@pytest.mark.parametrize(
    ("decision", "published"),
    [
        ({"type": "approve"}, ["Announcement: we ship today"]),
        (
            {"type": "edit", "edited_action": {"name": "publish_announcement", "args": {"text": "tomorrow"}}},
            ["tomorrow"],
        ),
        ({"type": "reject", "message": "not yet"}, None),
    ],
)
async def test_an_action_is_approved_edited_or_rejected(
    http: httpx.AsyncClient, decision: dict[str, Any], published: list[str] | None
) -> None:
    chat = await ask_for_approval(http)
    values = last_values(await chat.run(input={}, command={"resume": {"decisions": [decision]}}))
    assert values.get("published") == published
    assert "__interrupt__" not in values
    row = await chat.row()
    assert (row["status"], row["interrupts"]) == ("idle", {})
    if published is None:
        assert texts(row["values"])[-1] == "Not published: not yet"


async def test_marked_as_resolved_it_does_not_come_back(http: httpx.AsyncClient) -> None:
    chat = await ask_for_approval(http)
    seen = await chat.run(input={}, command={"goto": "__end__"}, checkpoint=await chat.head())
    assert "error" not in [frame.event for frame in seen]
    assert not any("__interrupt__" in str(frame.data) for frame in seen)
    row = await chat.row()
    assert (row["status"], row["interrupts"]) == ("idle", {})
    assert (await chat.history())[0]["next"] == []
    # The conversation goes on as any other does.
    values = last_values(await chat.say("again"))
    assert values["__interrupt__"]


async def test_a_reload_in_mid_run_joins_it_again(http: httpx.AsyncClient, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    chat = await Chat.start(http, "steps")
    body = {
        "assistant_id": "steps",
        "input": {"left": 2, "gate": str(gate)},
        "stream_mode": ["values"],
        "stream_resumable": True,
        "on_disconnect": "continue",
    }
    async with http.stream("POST", f"/threads/{chat.thread}/runs/stream", json=body) as response:
        first = await anext(frames(response))
        place = response.headers["content-location"]
    assert place == f"/threads/{chat.thread}/runs/{first.data['run_id']}"
    assert (await chat.row())["status"] == "busy"
    gate.touch()
    seen = await stream(http, "GET", f"{place}/stream", headers={"Last-Event-ID": "-1"})
    assert (seen[0].event, seen[0].data["run_id"]) == ("metadata", first.data["run_id"])
    assert last_values(seen)["done"] == [2, 1]
    rest = await stream(http, "GET", f"{place}/stream", headers={"Last-Event-ID": str(first.id)})
    assert rest == seen[1:]


async def test_a_new_thread_has_an_empty_state_and_history(http: httpx.AsyncClient) -> None:
    chat = await Chat.start(http, "chat")
    assert await chat.history() == []
    state = (await http.get(f"/threads/{chat.thread}/state")).json()
    assert (state["values"], state["next"], state["checkpoint"]) == ({}, [], None)


async def test_stopping_only_closes_the_stream_and_the_next_message_waits_its_turn(
    http: httpx.AsyncClient, tmp_path: Any
) -> None:
    gate = tmp_path / "gate"
    chat = await Chat.start(http, "steps")
    given = {"left": 1, "gate": str(gate)}
    path = f"/threads/{chat.thread}/runs/stream"
    async with http.stream("POST", path, json={"assistant_id": "steps", "input": given}) as response:
        await anext(frames(response))
    second = await http.post(f"/threads/{chat.thread}/runs", json={"assistant_id": "steps", "input": given})
    assert second.json()["status"] == "pending"
    gate.touch()
    done = await http.get(f"/threads/{chat.thread}/runs/{second.json()['run_id']}/join")
    assert done.json()["done"] == [1, 1]


async def test_a_failure_is_one_error_with_class_and_text(http: httpx.AsyncClient) -> None:
    chat = await Chat.start(http, "fail")
    seen = await chat.run(input={"value": "value"})
    assert [frame.data for frame in seen if frame.event == "error"] == [
        {"error": "ValueError", "message": "boom happened"}
    ]
    assert seen[-1].event == "error"


async def test_a_deep_interface_sets_files_breakpoints_and_pages_by_status(http: httpx.AsyncClient) -> None:
    chat = await Chat.start(http, "chat")
    assistants = (await http.post("/assistants/search", json={"graph_id": "chat"})).json()
    assert "system" in [each["metadata"].get("created_by") for each in assistants]
    seen = await chat.say("look", interrupt_before=["tools"], config={"recursion_limit": 50})
    assert last_values(seen)["messages"][-1]["tool_calls"][0]["name"] == "look"
    assert (await chat.row())["status"] == "interrupted"
    listed = await http.post(
        "/threads/search",
        json={"status": "interrupted", "sort_by": "updated_at", "sort_order": "desc", "limit": 20, "offset": 0},
        headers={"x-auth-scheme": "langsmith"},
    )
    assert chat.thread in [row["thread_id"] for row in listed.json()]
    values = last_values(await chat.run(input=None, interrupt_after=["tools"]))
    assert values["messages"][-1]["type"] == "tool"
    ended = await chat.run(input=None, command={"goto": "__end__", "update": None})
    assert "error" not in [frame.event for frame in ended]
    assert (await chat.row())["status"] == "idle"
    renamed = await http.patch(f"/threads/{chat.thread}", json={"metadata": {"title": "mine"}})
    assert renamed.json()["metadata"]["title"] == "mine"
    assert (await http.delete(f"/threads/{chat.thread}")).status_code == 204


async def test_a_question_is_kept_though_its_sibling_ends_later(http: httpx.AsyncClient) -> None:
    """A jump past a question asks it again beside the node that was jumped to."""
    chat = await Chat.start(http, "asking")
    await chat.run(input={})
    path = f"/threads/{chat.thread}/runs/wait"
    body = {"assistant_id": "asking", "command": {"update": {"log": ["told"]}, "goto": "second"}}
    values = (await http.post(path, json=body)).json()
    assert [each["value"] for each in values["__interrupt__"]] == [{"question": "ask"}]
    row = await chat.row()
    assert row["status"] == "interrupted"
    ((waiting,),) = row["interrupts"].values()
    assert waiting == {key: values["__interrupt__"][0][key] for key in waiting}
    state = (await http.get(f"/threads/{chat.thread}/state")).json()
    assert (state["values"], state["next"]) == (row["values"], ["ask"])
