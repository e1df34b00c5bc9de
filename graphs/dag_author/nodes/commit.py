"""Commit the file and its rows, all or nothing. Executed again, it finds what it did the first time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from langchain_core.runnables import RunnableConfig

from graphs.dag_author import checks, render, roundtrip
from graphs.dag_author.identity import asker
from graphs.dag_author.plan import Plan
from graphs.dag_author.problems import Refused
from graphs.dag_author.progress import Step, report
from graphs.dag_author.services import store
from graphs.dag_author.spec import DagSpec
from graphs.dag_author.state import State


async def commit(state: State, config: RunnableConfig) -> dict[str, Any]:
    draft = state["draft"]
    assert draft is not None
    try:
        who = asker(config)
        who = replace(who, request_id=who.request_id or state["request"]["key"])
        spec = DagSpec.model_validate(draft["spec"])
        plan = await asyncio.to_thread(checks.check, spec, now=datetime.now(UTC))
        report(Step.COMMITTING, "Committing to the project")
        created = await store().create(who, plan, _text)
    except Refused as refusal:
        report(Step.FAILED, str(refusal.problems[0].code))
        return {"problems": [problem.as_json() for problem in refusal.problems]}
    report(Step.DONE, f"Committed {created.file_path}", dag_id=created.dag_id, commit_id=created.commit_id)
    return {
        "dag_id": created.dag_id,
        "file_path": created.file_path,
        "commit_id": created.commit_id,
        "created_at": created.created_at.isoformat(),
    }


def _text(plan: Plan) -> str:
    """The file under its final id: the id may have got a number since it was checked."""
    text = render.render(plan)
    roundtrip.verify(text, plan)
    return text
