"""Levels 0 and 1 of the validation ladder, before anything is locked or written."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from langchain_core.runnables import RunnableConfig

from graphs.dag_author import checks, render, roundtrip, schedule
from graphs.dag_author.plan import Plan
from graphs.dag_author.problems import Refused
from graphs.dag_author.progress import Step, report
from graphs.dag_author.spec import DagSpec
from graphs.dag_author.state import State


async def check(state: State, config: RunnableConfig) -> dict[str, Any]:
    draft = state["draft"]
    assert draft is not None
    spec = DagSpec.model_validate(draft["spec"])
    try:
        report(Step.VALIDATING, f"Checking {len(spec.tasks)} tasks")
        plan = await asyncio.to_thread(checks.check, spec, now=datetime.now(UTC))
        report(Step.RENDERING, f"Writing {plan.path}")
        text = await asyncio.to_thread(render.render, plan)
        report(Step.CHECKING, "Reading the file back")
        await asyncio.to_thread(roundtrip.verify, text, plan)
    except Refused as refusal:
        report(Step.FAILED, str(refusal.problems[0].code))
        return {"problems": [problem.as_json() for problem in refusal.problems]}
    return {
        "schedule": schedule.in_words(plan.schedule, plan.zone),
        "next_runs": next_runs(plan),
        "fill_in": [f"{task_id}: {item}" for task_id, item in plan.fill_in],
    }


def next_runs(plan: Plan) -> list[str]:
    """The next three runs, in the zone of the DAG."""
    after = max(datetime.now(UTC), schedule.localised(plan.start, plan.zone))
    return [moment.isoformat() for moment in schedule.next_runs(plan.schedule, plan.zone, after)]
