"""The last word of a request: what was made, what failed, or what can be asked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from langchain_core.runnables import RunnableConfig

from graphs.dag_author import answers, checks
from graphs.dag_author.spec import DagSpec
from graphs.dag_author.state import State


async def answer(state: State, config: RunnableConfig) -> dict[str, Any]:
    request = state["request"]
    if problems := state.get("problems"):
        text = answers.problems(problems)
    elif request["action"] == "create":
        draft = state["draft"]
        assert draft is not None
        spec = DagSpec.model_validate(draft["spec"])
        plan = await asyncio.to_thread(checks.check, spec, now=datetime.now(UTC))
        text = answers.created(state, draft, plan)
    else:
        text = answers.guidance(request["action"], request["text"])
    found: dict[str, Any] = {"messages": [answers.message(request["key"], text)]}
    if request["action"] == "empty":
        found["problems"] = [answers.EMPTY.as_json()]
    return found
