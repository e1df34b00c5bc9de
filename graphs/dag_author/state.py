"""What a thread of this agent holds: the conversation, and what the last request led to."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages


class Request(TypedDict):
    """One request, taken out of the conversation."""

    key: str  # the same when the request is executed again after a crash
    action: str  # create, list, show, help, empty, unknown, chat
    text: str  # what stood behind the command
    spec: dict[str, Any] | None  # structured input, which needs no planning


class Draft(TypedDict):
    """A spec as a planner or the user gave it, in canonical form."""

    spec: dict[str, Any]
    planner: str  # rules, model or given
    notes: list[str]


class Input(TypedDict, total=False):
    """A message with a command, or a spec in the vocabulary of `POST /create-dag`."""

    messages: Annotated[list[AnyMessage], add_messages]
    spec: dict[str, Any] | None


class Output(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    dag_id: str | None
    file_path: str | None
    commit_id: str | None
    created_at: str | None
    schedule: str | None
    next_runs: list[str]
    planner: str | None
    fill_in: list[str]
    problems: list[dict[str, str]]


class State(Input, Output, total=False):
    request: Request
    draft: Draft | None
