"""A checked DAG, ready to be written down: every argument of every operator as a plain value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from graphs.dag_author.schedule import Schedule

Value = Any  # None, bool, int, float, str, timedelta, and lists and dicts of these


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTask:
    task_id: str
    kind: str
    arguments: tuple[tuple[str, Value], ...]
    upstream: tuple[str, ...]
    function: str | None = None  # the source of `_run_<task_id>`, for kinds that call one
    fill_in: tuple[str, ...] = ()  # what its author must still write


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    dag_id: str
    wants_this_id: bool  # asked for by name: taken means a conflict, not a number
    name: str
    description: str
    schedule: Schedule
    zone: str
    start: datetime  # the wall clock in `zone`
    catchup: bool
    max_active_runs: int
    default_args: tuple[tuple[str, Value], ...]
    owner: str
    tags: tuple[str, ...]
    params: dict[str, Value] | None
    tasks: tuple[PlannedTask, ...]
    uses_ds: bool  # whether something reads `ds`, which names another day in Airflow 2 than in 3
    digest: str  # sha256 of the spec it was made from
    warnings: tuple[str, ...] = ()

    def with_id(self, dag_id: str) -> Plan:
        return replace(self, dag_id=dag_id)

    @property
    def path(self) -> str:
        return f"dags/{self.dag_id}.py"

    @property
    def fill_in(self) -> list[tuple[str, str]]:
        """What is left open, by task."""
        return [(task.task_id, item) for task in self.tasks for item in task.fill_in]
