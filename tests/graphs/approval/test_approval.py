"""The example with a person in the loop."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from graphs.approval.graph import builder

CONFIG: RunnableConfig = {"configurable": {"thread_id": "t"}}


@pytest.fixture
def agent() -> Any:
    return builder.compile(checkpointer=InMemorySaver())


def _ask(agent: Any) -> dict[str, Any]:
    return dict(agent.invoke({"messages": [("user", "lunch is at noon")]}, CONFIG))


def _resume(agent: Any, answer: Any) -> dict[str, Any]:
    return dict(agent.invoke(Command(resume=answer), CONFIG))


def test_nothing_is_published_before_a_decision(agent: Any) -> None:
    values = _ask(agent)
    (request,) = values["__interrupt__"][0].value["action_requests"]
    assert request["args"] == {"text": "Announcement: lunch is at noon"}
    assert not values.get("published")


def test_approval_publishes_the_draft(agent: Any) -> None:
    _ask(agent)
    assert _resume(agent, {"decisions": [{"type": "approve"}]})["published"] == ["Announcement: lunch is at noon"]


def test_an_edit_publishes_the_other_text(agent: Any) -> None:
    _ask(agent)
    edited = {"name": "publish_announcement", "args": {"text": "Lunch at one"}}
    values = _resume(agent, {"decisions": [{"type": "edit", "edited_action": edited}]})
    assert values["published"] == ["Lunch at one"]


def test_a_rejection_publishes_nothing_and_keeps_the_reason(agent: Any) -> None:
    _ask(agent)
    values = _resume(agent, {"decisions": [{"type": "reject", "message": "too early"}]})
    assert not values.get("published")
    assert values["messages"][-1].content == "Not published: too early"


@pytest.mark.parametrize("answer", ["", [], 7, "yes please", {"decisions": []}, {"type": "edit"}])
def test_any_other_answer_is_asked_for_again(agent: Any, answer: Any) -> None:
    _ask(agent)
    values = _resume(agent, answer)
    assert "Please answer with one of" in values["__interrupt__"][0].value["action_requests"][0]["description"]
    assert _resume(agent, "approve")["published"]


def test_an_empty_message_is_asked_for_words(agent: Any) -> None:
    values = agent.invoke({"messages": []}, CONFIG)
    assert values["messages"][-1].content == "Tell me what to announce."
