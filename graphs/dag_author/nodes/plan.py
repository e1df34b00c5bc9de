"""From the request to a spec: as given, by the model when one is configured, otherwise by the rules."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from langchain_core.runnables import RunnableConfig

from graphs.dag_author import limits, planner_rules, reading
from graphs.dag_author.model_settings import ModelSettings
from graphs.dag_author.problems import Code, Refused
from graphs.dag_author.progress import Step, report
from graphs.dag_author.reading import Reading
from graphs.dag_author.state import Draft, State


async def plan(state: State, config: RunnableConfig) -> dict[str, Any]:
    request = state["request"]
    try:
        if request["spec"] is not None:
            report(Step.PLANNING, "Reading the spec", planner="given")
            read = await asyncio.to_thread(reading.read, request["spec"])
            return _draft(read, "given", [])
        text = _bounded(request["text"])
        model = ModelSettings.find(config)
        if model is None:
            report(Step.PLANNING, "Planning by rules", planner="rules")
            fields, assumed = await asyncio.to_thread(planner_rules.plan, text)
            read = await asyncio.to_thread(reading.read, fields)
            return _draft(read, "rules", [f"Assumed: {item}." for item in assumed])
        report(Step.PLANNING, f"Asking {model.name}", planner="model")
        # Model libraries are loaded here and nowhere else: only when one is really called.
        planner = await asyncio.to_thread(importlib.import_module, "graphs.dag_author.planner_model")
        read = await planner.plan(text, model)
        return _draft(read, "model", [])
    except Refused as refusal:
        report(Step.FAILED, str(refusal.problems[0].code))
        return {"problems": [problem.as_json() for problem in refusal.problems]}


def _bounded(text: str) -> str:
    if len(text) > limits.REQUEST_LENGTH:
        raise Refused.because(
            Code.SPEC_INVALID,
            "request",
            f"is longer than {limits.REQUEST_LENGTH} characters",
            got=f"{len(text)} characters",
        )
    clean = "".join(" " if letter == "\x00" or "\ud800" <= letter <= "\udfff" else letter for letter in text)
    if not clean.strip():
        raise Refused.because(Code.REQUEST_EMPTY, "request", "holds no readable text")
    return clean


def _draft(read: Reading, planner: str, notes: list[str]) -> dict[str, Any]:
    draft = Draft(
        spec=read.spec.model_dump(mode="json", exclude_none=True),
        planner=planner,
        notes=[*notes, *read.notes],
    )
    return {"draft": draft, "planner": planner}
