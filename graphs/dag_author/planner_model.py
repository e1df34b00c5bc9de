"""A request becomes a spec by asking a model, and asking it again when its answer breaks a rule.

What can be put right without loss is put right in code. Everything else goes back with the list of what is
wrong, at most twice; then the user gets that list. Nothing is dropped to make an answer fit.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graphs.dag_author import checks, model_answer, reading
from graphs.dag_author.model_settings import ModelSettings
from graphs.dag_author.problems import Code, Refused
from graphs.dag_author.progress import Step, report
from graphs.dag_author.reading import Reading
from graphs.dag_author.spec import DagSpec
from heddle_kit.llm import (
    KeyRejected,
    Model,
    ModelFault,
    Reply,
    RequestRejected,
    Role,
    TimedOut,
    Turn,
)
from heddle_kit.llm.openai import OpenAIModel

REPAIRS = 2
TOOL = "submit_dag"
_PROMPT = (Path(__file__).parent / "prompts" / "plan.md").read_text(encoding="utf-8")
# Asking again cannot help here.
_FINAL = {Code.MODEL_REFUSED}


async def plan(text: str, settings: ModelSettings) -> Reading:
    """The spec the model makes of a request; Refused with what is wrong with its last answer."""
    model = await asyncio.to_thread(
        OpenAIModel,
        name=settings.name,
        api_key=settings.api_key,
        base_url=settings.base_url,
        timeout=settings.timeout,
    )
    return await converse(text, model)


async def converse(text: str, model: Model) -> Reading:
    turns = [Turn(role=Role.SYSTEM, text=_PROMPT), Turn(role=Role.USER, text=text)]
    for repair in range(REPAIRS + 1):
        reply = await _ask(model, turns)
        try:
            return await asyncio.to_thread(_checked, reply)
        except Refused as refusal:
            if repair == REPAIRS or any(problem.code in _FINAL for problem in refusal.problems):
                raise
            report(Step.PLANNING, "Asking the model to repair its answer", problems=len(refusal.problems))
            turns = [*turns[:2], *_repair(reply, refusal)]
    raise AssertionError("the loop returns or raises")


def _checked(reply: Reply) -> Reading:
    read = reading.read(model_answer.read(reply))
    checks.check(read.spec, now=datetime.now(UTC))
    return read


async def _ask(model: Model, turns: list[Turn]) -> Reply:
    try:
        return await model.ask(turns, tool=TOOL, about="Hand over the finished DAG.", schema=_schema())
    except TimedOut as fault:
        raise Refused.because(Code.MODEL_TIMEOUT, "model", str(fault)) from fault
    except KeyRejected as fault:
        raise Refused.because(Code.MODEL_REJECTED_KEY, "model", str(fault)) from fault
    except RequestRejected as fault:
        fix = "check the model name (DAG_AUTHOR_MODEL) and that the service knows tool calls"
        raise Refused.because(Code.MODEL_UNREACHABLE, "model", str(fault), allowed=fix) from fault
    except ModelFault as fault:
        raise Refused.because(Code.MODEL_UNREACHABLE, "model", str(fault)) from fault


def _repair(reply: Reply, refusal: Refused) -> list[Turn]:
    said = (reply.calls[0] if reply.calls else reply.text).strip() or "(nothing)"
    problems = json.dumps([problem.as_json() for problem in refusal.problems[:30]], ensure_ascii=False, indent=1)
    return [
        Turn(role=Role.ASSISTANT, text=said[:100_000]),
        Turn(
            role=Role.USER,
            text="That answer cannot be used. Put right exactly these problems, change nothing else, and "
            f"hand over the whole DAG again:\n{problems}",
        ),
    ]


def _schema() -> dict[str, Any]:
    """The JSON schema of a spec. It guides the model; what counts is checked afterwards."""
    return DagSpec.model_json_schema()
