"""Level 0 of the validation ladder: from a spec to a plan, or to the list of everything wrong with it.

Pure: the moment "now" is an argument, and only used to warn about a start in the future.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from graphs.dag_author import python_text, schedule, structure, template_text
from graphs.dag_author.naming import dag_id_for
from graphs.dag_author.plan import Plan, PlannedTask, Value
from graphs.dag_author.problems import Code, Problem, Refused
from graphs.dag_author.spec import (
    BashTask,
    DagSpec,
    EmptyTask,
    PythonTask,
    Sensor,
    SqlTask,
    Task,
    TriggerDagTask,
    WaitDagTask,
    WaitFileTask,
    WaitPythonTask,
    WaitTimeTask,
)

FILL_IN = "fill in: "


def check(spec: DagSpec, *, now: datetime) -> Plan:
    """The plan for this spec; Refused with all its problems at once."""
    problems: list[Problem] = []
    warnings: list[str] = []
    when = schedule.Schedule()
    try:
        when = schedule.parse(spec.schedule_interval, spec.interval_minutes)
    except Refused as refusal:
        problems += refusal.problems
    if when.text == "@continuous" and spec.max_active_runs != 1:
        problems.append(_problem("max_active_runs", "@continuous allows one active run", spec.max_active_runs, "1"))
    upstream = {task.task_id: task.dependencies for task in spec.tasks}
    problems += structure.problems(upstream, [task.task_id for task in spec.tasks])
    tasks = []
    for index, task in enumerate(spec.tasks):
        try:
            tasks.append(_task(task, f"tasks[{index}]", upstream, warnings))
        except Refused as refusal:
            problems += refusal.problems
    if problems:
        raise Refused(problems[:100])
    start = _start(spec)
    if start.replace(tzinfo=ZoneInfo(spec.timezone)) > now:
        warnings.append(f"The start date {spec.start_date} is in the future: the DAG does not run before it.")
    warnings += _join_warnings(spec, upstream)
    return Plan(
        dag_id=spec.dag_id or dag_id_for(spec.dag_name),
        wants_this_id=spec.dag_id is not None,
        name=spec.dag_name,
        description=spec.description,
        schedule=when,
        zone=spec.timezone,
        start=start,
        catchup=spec.catchup,
        max_active_runs=spec.max_active_runs,
        default_args=_default_args(spec),
        owner=spec.owner,
        tags=tuple(sorted(set(spec.tags))),
        params=spec.params,
        tasks=tuple(tasks),
        uses_ds=when.cron is not None and any(_reads_ds(task) for task in tasks),
        digest=digest(spec),
        warnings=tuple(warnings),
    )


def _reads_ds(task: PlannedTask) -> bool:
    texts = [task.function or "", *(str(value) for _, value in task.arguments)]
    return any(re.search(r"\bds(_nodash)?\b", text) for text in texts)


def digest(spec: DagSpec) -> str:
    """A hash of all the spec says: equal specs have equal hashes."""
    text = json.dumps(spec.model_dump(mode="json"), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _default_args(spec: DagSpec) -> tuple[tuple[str, Value], ...]:
    return (
        ("owner", spec.owner),
        ("depends_on_past", spec.depends_on_past),
        ("retries", spec.retries),
        ("retry_delay", timedelta(minutes=spec.retry_delay_minutes)),
    )


def _start(spec: DagSpec) -> datetime:
    """The start as the wall clock of the DAG's zone reads; a time with an offset is converted."""
    start = datetime.fromisoformat(spec.start_date)
    if start.tzinfo is not None:
        start = start.astimezone(ZoneInfo(spec.timezone)).replace(tzinfo=None)
    return start.replace(microsecond=0)


def _task(task: Task, path: str, upstream: dict[str, list[str]], warnings: list[str]) -> PlannedTask:
    function: str | None = None
    arguments: list[tuple[str, Value]] = []
    fill_in: tuple[str, ...] = ()
    match task:
        case PythonTask() | WaitPythonTask():
            wrapped = python_text.wrap(task.python_code, task_id=task.task_id, path=f"{path}.python_code")
            function = wrapped.source
            warnings += wrapped.warnings
            fill_in = open_items(function)
        case BashTask():
            arguments += _bash(task, path, warnings)
        case SqlTask():
            arguments += _sql(task, path, warnings)
        case TriggerDagTask():
            arguments.append(("trigger_dag_id", task.trigger_dag_id))
            if task.conf is not None:
                arguments.append(("conf", task.conf))
        case WaitFileTask():
            # A path is expected to end like a file; this operator reads no template files.
            filepath = _template(task.filepath, task.task_id, f"{path}.filepath", warnings).rstrip(" ")
            arguments += [("filepath", filepath), ("fs_conn_id", task.fs_conn_id)]
        case WaitTimeTask():
            arguments.append(("delta", timedelta(minutes=task.wait_minutes)))
        case WaitDagTask():
            arguments.append(("external_dag_id", task.external_dag_id))
            if task.external_task_id is not None:
                arguments.append(("external_task_id", task.external_task_id))
            if task.execution_delta_minutes:
                arguments.append(("execution_delta", timedelta(minutes=task.execution_delta_minutes)))
        case EmptyTask():
            pass
    if isinstance(task, Sensor):
        arguments += [
            ("mode", "reschedule"),
            ("poke_interval", task.poke_interval_seconds),
            ("timeout", task.timeout_minutes * 60),
        ]
    return PlannedTask(
        task_id=task.task_id,
        kind=str(task.task_type),  # type: ignore[attr-defined] # every concrete task has one
        arguments=(*arguments, *_common(task)),
        upstream=tuple(dict.fromkeys(upstream[task.task_id])),
        function=function,
        fill_in=fill_in,
    )


def _common(task: Task) -> list[tuple[str, Value]]:
    found: list[tuple[str, Value]] = []
    if task.trigger_rule != "all_success":
        found.append(("trigger_rule", task.trigger_rule))
    if task.retries is not None:
        found.append(("retries", task.retries))
    if task.retry_delay_minutes is not None:
        found.append(("retry_delay", timedelta(minutes=task.retry_delay_minutes)))
    if task.execution_timeout_minutes is not None:
        found.append(("execution_timeout", timedelta(minutes=task.execution_timeout_minutes)))
    if task.pool is not None:
        found.append(("pool", task.pool))
    return found


def _bash(task: BashTask, path: str, warnings: list[str]) -> list[tuple[str, Value]]:
    command = task.bash_command.replace("\r\n", "\n")
    if not command.strip():
        raise Refused.because(Code.BASH_EMPTY, f"{path}.bash_command", "is empty: Airflow would report success")
    found: list[tuple[str, Value]] = [
        ("bash_command", _template(command, task.task_id, f"{path}.bash_command", warnings))
    ]
    if task.env is not None:
        env = {
            name: _template(value, task.task_id, f"{path}.env.{name}", warnings)
            for name, value in sorted(task.env.items())
        }
        found += [("env", env), ("append_env", task.append_env)]
    if task.cwd is not None:
        _refuse_file_ending(task.cwd, f"{path}.cwd", (".sh", ".bash"))
        found.append(("cwd", _template(task.cwd, task.task_id, f"{path}.cwd", warnings)))
    return found


def _sql(task: SqlTask, path: str, warnings: list[str]) -> list[tuple[str, Value]]:
    statements = [task.sql] if isinstance(task.sql, str) else task.sql
    prepared = []
    for statement in statements:
        if not statement.strip():
            raise Refused.because(Code.SPEC_INVALID, f"{path}.sql", "is empty")
        prepared.append(_template(statement, task.task_id, f"{path}.sql", warnings))
    found: list[tuple[str, Value]] = [
        ("conn_id", task.conn_id),
        ("sql", prepared[0] if isinstance(task.sql, str) else prepared),
    ]
    if task.parameters is not None:
        found.append(("parameters", task.parameters))
    return found


def _template(text: str, task_id: str, path: str, warnings: list[str]) -> str:
    prepared = template_text.prepare(text)
    if prepared.literal:
        warnings.append(
            f"The text of task `{task_id}` ({path.rsplit('.', 1)[-1]}) is no template Airflow could render: "
            "it is passed on literally."
        )
    warnings += [f"The task `{task_id}` uses `{name}`, which Airflow 3 no longer has." for name in prepared.unknown]
    return prepared.text


def _refuse_file_ending(text: str, path: str, endings: tuple[str, ...]) -> None:
    if endings and text.endswith(endings):
        raise Refused.because(Code.TEMPLATE_INVALID, path, "would be read as the name of a template file", got=text)


def _join_warnings(spec: DagSpec, upstream: dict[str, list[str]]) -> list[str]:
    branches = [task for task in spec.tasks if isinstance(task, PythonTask) and task.task_type == "branch"]
    if not branches:
        return []
    after = structure.behind(upstream, {task.task_id for task in branches})
    joins = [task for task in spec.tasks if len(set(task.dependencies)) > 1 and set(task.dependencies) & after]
    return [
        f"The task `{task.task_id}` joins paths behind a branch: with the trigger rule all_success it is "
        "skipped with the path not taken (use none_failed_min_one_success)."
        for task in joins
        if task.trigger_rule == "all_success"
    ]


def open_items(source: str) -> tuple[str, ...]:
    """What a function raises NotImplementedError("fill in: …") for."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            continue
        named = isinstance(node.exc.func, ast.Name) and node.exc.func.id == "NotImplementedError"
        if named and node.exc.args and isinstance(node.exc.args[0], ast.Constant):
            text: Any = node.exc.args[0].value
            if isinstance(text, str) and text.startswith(FILL_IN):
                found.append(text.removeprefix(FILL_IN))
    return tuple(found)


def _problem(path: str, rule: str, got: object, allowed: str) -> Problem:
    return Problem(code=Code.SPEC_INVALID, path=path, rule=rule, got=str(got), allowed=allowed)
