"""Take the request out of the conversation, and forget what the request before it led to."""

from __future__ import annotations

import uuid
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig

from graphs.dag_author import commands
from graphs.dag_author.identity import asker
from graphs.dag_author.problems import Refused
from graphs.dag_author.state import Request, State


async def receive(state: State, config: RunnableConfig) -> dict[str, Any]:
    # A spec in the input is used once: it would otherwise come back with the next message.
    fresh: dict[str, Any] = {
        "spec": None,
        "draft": None,
        "dag_id": None,
        "file_path": None,
        "commit_id": None,
        "created_at": None,
        "schedule": None,
        "next_runs": [],
        "planner": None,
        "fill_in": [],
        "problems": [],
    }
    try:
        who = asker(config)
    except Refused as refusal:
        fresh["problems"] = [problem.as_json() for problem in refusal.problems]
        return fresh | {"request": Request(key=str(uuid.uuid4()), action="create", text="", spec=None)}
    key = who.request_id or str(uuid.uuid4())
    spec = state.get("spec")
    if spec is not None:
        return fresh | {"request": Request(key=key, action="create", text="", spec=spec)}
    command = _command(state)
    action = "empty" if command.action == "create" and not command.text else command.action
    return fresh | {"request": Request(key=key, action=action, text=command.text, spec=None)}


def _command(state: State) -> commands.Command:
    messages = state.get("messages") or []
    if not messages or not isinstance(messages[-1], HumanMessage):
        return commands.Command(action="help")
    return commands.parse(commands.text_of(messages[-1].content))
