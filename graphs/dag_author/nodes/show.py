"""`/agent show`: one DAG, its source, its tasks and its schedule."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.runnables import RunnableConfig

from graphs.dag_author import answers
from graphs.dag_author.identity import asker
from graphs.dag_author.naming import DAG_ID, nearest
from graphs.dag_author.problems import Code, Refused
from graphs.dag_author.services import store
from graphs.dag_author.state import State


async def show(state: State, config: RunnableConfig) -> dict[str, Any]:
    key, wanted = state["request"]["key"], state["request"]["text"].strip("`'\" ")
    try:
        project = asker(config).project_id
        found = await store().show(project, wanted) if DAG_ID.match(wanted) else None
        if found is None:
            known = [row.dag_id for row in await store().list(project)]
            near = nearest(wanted, known)
            allowed = f"did you mean {near}?" if near else "/agent list shows the DAGs of this project"
            raise Refused.because(Code.DAG_NOT_FOUND, "dag_id", "no such DAG here", got=wanted, allowed=allowed)
    except Refused as refusal:
        return answers.refused(key, refusal)
    text = await asyncio.to_thread(answers.showing, found)
    return {
        "messages": [answers.message(key, text)],
        "dag_id": found.row.dag_id,
        "file_path": found.row.file_path,
        "commit_id": found.row.commit_id,
    }
