"""The model planner, against a scripted service on the real wire."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.graphs.dag_author.conftest import World, answer
from tests.support.fake_llm import Say, Service, serve, tool

SPEC: dict[str, Any] = {
    "dag_name": "Orders",
    "schedule_interval": "0 6 * * *",
    "tasks": [
        {"task_id": "extract", "task_type": "sql", "conn_id": "postgres", "sql": "select 1"},
        {"task_id": "tell", "task_type": "bash", "bash_command": "echo done", "dependencies": ["extract"]},
    ],
}
CYCLE = SPEC | {
    "tasks": [
        {"task_id": "a", "task_type": "empty", "dependencies": ["b"]},
        {"task_id": "b", "task_type": "empty", "dependencies": ["a"]},
    ]
}
KEY = "sk-very-secret-123"

Model = Callable[..., Service]


@pytest.fixture
def model(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """Configure a scripted model: model(reply, reply, …)."""
    with ExitStack() as stack:

        def start(*script: Say) -> Service:
            service = stack.enter_context(serve(script))
            monkeypatch.setenv("OPENAI_API_BASE", service.url)
            monkeypatch.setenv("OPENAI_API_KEY", KEY)
            monkeypatch.setenv("DAG_AUTHOR_MODEL_TIMEOUT", "20")
            return service

        yield start


async def test_a_tool_call_becomes_a_dag(world: World, model: Model) -> None:
    service = model(tool(SPEC))
    values = await world.say("/agent create orders please")

    assert values["planner"] == "model"
    assert values["dag_id"] == "orders"
    assert "Planned by the configured model" in answer(values)
    (request,) = service.requests
    assert request["messages"][-1] == {"role": "user", "content": "orders please"}
    assert request["tools"][0]["function"]["parameters"]["properties"]["tasks"]
    assert service.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(SPEC),
        f"<think>{{}} hm</think>Here it is:\n```json\n{json.dumps(SPEC, indent=2)}\n```\nEnjoy!",
        f'```json\n{{"note": 1}}\n```\n```\n{json.dumps({"dag": SPEC})}\n```',
        json.dumps([SPEC]),
        json.dumps({"spec": json.dumps(SPEC)}),
        repr(SPEC),
        json.dumps(SPEC, indent=1).replace('"Orders",', '"Orders", // the name').replace("]\n}", "],\n}"),
    ],
    ids=[
        "bare",
        "fenced after thinking",
        "last block with tasks",
        "list of one",
        "twice encoded",
        "python",
        "comments",
    ],
)
async def test_answers_in_plain_text_are_read(world: World, model: Model, text: str) -> None:
    model(Say(text=text))
    assert (await world.say("/agent create x"))["dag_id"] == "orders"


async def test_a_broken_answer_goes_back_with_what_is_wrong(world: World, model: Model) -> None:
    service = model(tool(CYCLE), tool(SPEC))
    values = await world.say("/agent create x")

    assert values["commit_id"]
    repair = service.requests[1]["messages"]
    assert "graph_cycle" in repair[-1]["content"]
    assert repair[-2]["role"] == "assistant"


async def test_after_two_repairs_the_user_gets_the_problems(world: World, model: Model) -> None:
    service = model(tool(CYCLE), tool(CYCLE), tool(CYCLE), tool(SPEC))
    values = await world.say("/agent create x")

    assert len(service.requests) == 3
    assert values["problems"][0]["code"] == "graph_cycle"
    assert world.rows("user_dags") == []


@pytest.mark.parametrize(
    ("reply", "code", "calls"),
    [
        (Say(text="", finish="stop"), "answer_empty", 3),
        (Say(text="I would rather talk about cats", finish="stop"), "answer_unreadable", 3),
        (Say(text='{"dag_name": "x", "tasks": [', finish="length"), "answer_truncated", 3),
        (Say(text=json.dumps(SPEC), finish=None), "answer_truncated", 3),
        (Say(refusal="I cannot help with that"), "model_refused", 1),
        (Say(text='{"dag_name": "a", "dag_name": "b", "tasks": []}'), "answer_unreadable", 3),
        (Say(text='{"dag_name": "a", "retries": NaN, "tasks": []}'), "answer_unreadable", 3),
        (Say(status=401), "model_rejected_key", 1),
        (Say(status=403), "model_rejected_key", 1),
        (Say(status=400), "model_unreachable", 1),
    ],
)
async def test_each_fault_of_a_model_has_its_code(
    world: World, model: Model, reply: Say, code: str, calls: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service = model(*[reply] * 4)
    values = await world.say("/agent create x")

    assert values["problems"][0]["code"] == code
    assert len(service.requests) == calls
    assert "Fix:" in answer(values)
    assert KEY not in json.dumps([str(m) for m in values["messages"]]) + caplog.text
    assert world.rows("user_dags") == []


async def test_overload_is_waited_out(world: World, model: Model) -> None:
    service = model(Say(status=429, retry_after="0.01"), Say(status=503, retry_after="0.01"), tool(SPEC))
    assert (await world.say("/agent create x"))["commit_id"]
    assert len(service.requests) == 3


async def test_a_silent_model_ends_at_the_deadline(world: World, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model(Say(hang=True))
    monkeypatch.setenv("DAG_AUTHOR_MODEL_TIMEOUT", "0.6")
    assert (await world.say("/agent create x"))["problems"][0]["code"] == "model_timeout"


async def test_an_unreachable_model_is_an_error_and_not_the_rules(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model()
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("DAG_AUTHOR_MODEL_TIMEOUT", "1.5")
    values = await world.say("/agent create run a.sh")
    assert values["problems"][0]["code"] == "model_unreachable"
    assert world.rows("user_dags") == []


async def test_an_assistant_names_its_model_and_a_local_one_needs_no_key(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = model(tool(SPEC), tool(SPEC))
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("DAG_AUTHOR_MODEL", "from-the-setting")
    await world.say("/agent create x")
    await world.say("/agent create x", model="from-the-assistant")
    assert [request["model"] for request in service.requests] == ["from-the-setting", "from-the-assistant"]


async def test_no_token_of_the_model_is_shown_as_a_message(world: World, model: Model) -> None:
    model(Say(text=json.dumps(SPEC)))
    shown = [
        part
        async for part in world.agent.astream(
            {"messages": [("user", "/agent create x")]},
            {"configurable": {"thread_id": "m"}},
            stream_mode="messages",
        )
    ]
    texts = {str(message.content)[:7] for message, _ in shown}
    assert texts == {"Created"}
