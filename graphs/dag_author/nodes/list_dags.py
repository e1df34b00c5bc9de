"""`/agent list`: the DAGs of the project."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig

from graphs.dag_author import answers
from graphs.dag_author.identity import asker
from graphs.dag_author.problems import Refused
from graphs.dag_author.services import store
from graphs.dag_author.state import State


async def list_dags(state: State, config: RunnableConfig) -> dict[str, Any]:
    try:
        found = await store().list(asker(config).project_id)
    except Refused as refusal:
        return answers.refused(state["request"]["key"], refusal)
    return {"messages": [answers.message(state["request"]["key"], answers.listing(found))]}
