"""From what people and models write to the canonical form of a spec.

Only changes that lose nothing happen here: other names for a field, numbers and yes or no written as
words, ids made from names. Each is noted. A doubt between two readings is a problem, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from graphs.dag_author import limits, task_names
from graphs.dag_author.naming import nearest
from graphs.dag_author.problems import Code, Problem, Refused, shown
from graphs.dag_author.spec import TASK_TYPES, DagSpec, fields_of

ENVELOPES = ("dag", "spec", "pipeline")

DAG_ALIASES = {
    "name": "dag_name",
    "title": "dag_name",
    "schedule": "schedule_interval",
    "cron": "schedule_interval",
    "tz": "timezone",
    "time_zone": "timezone",
    "default_owner": "owner",
    "steps": "tasks",
}
TASK_ALIASES = {
    "id": "task_id",
    "name": "task_id",
    "type": "task_type",
    "operator": "task_type",
    "kind": "task_type",
    "code": "python_code",
    "command": "bash_command",
    "bash": "bash_command",
    "query": "sql",
    "connection": "conn_id",
    "connection_id": "conn_id",
    "depends_on": "dependencies",
    "upstream": "dependencies",
    "upstream_task_ids": "dependencies",
    "file_path": "filepath",
}
TYPE_ALIASES = {
    "shell": "bash",
    "dummy": "empty",
    "noop": "empty",
    "branchpython": "branch",
    "branch_python": "branch",
    "shortcircuit": "short_circuit",
    "sqlexecutequery": "sql",
    "sql_execute_query": "sql",
    "postgres": "sql",
    "triggerdagrun": "trigger_dag",
    "trigger_dagrun": "trigger_dag",
    "filesensor": "wait_file",
    "pythonsensor": "wait_python",
    "timedeltasensor": "wait_time",
    "externaltasksensor": "wait_dag",
}
_DAG_NUMBERS = ("retries", "retry_delay_minutes", "max_active_runs", "interval_minutes")
_TASK_NUMBERS = (
    "retries",
    "retry_delay_minutes",
    "execution_timeout_minutes",
    "poke_interval_seconds",
    "timeout_minutes",
    "wait_minutes",
    "execution_delta_minutes",
)
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A spec in canonical form, with what was changed on the way and what the user should know."""

    spec: DagSpec
    notes: tuple[str, ...]


def read(raw: object) -> Reading:
    """The spec in this answer or request body; Refused with every problem found."""
    notes: list[str] = []
    fields = _dag_fields(_opened(raw), notes)
    tasks = _tasks(fields)
    read_tasks = [_task_fields(task, index, notes) for index, task in enumerate(tasks)]
    fields["tasks"] = task_names.assign(read_tasks, notes)
    try:
        spec = DagSpec.model_validate(fields)
    except ValidationError as fault:
        raise Refused(_problems(fault, fields)) from fault
    return Reading(spec=spec, notes=tuple(notes))


def _opened(raw: object) -> dict[str, Any]:
    if isinstance(raw, list) and len(raw) == 1:
        raw = raw[0]
    if not isinstance(raw, Mapping):
        raise Refused.because(Code.SPEC_INVALID, "spec", "must be an object", got=raw)
    if "tasks" not in raw:
        for name in ENVELOPES:
            if isinstance(raw.get(name), Mapping):
                return dict(raw[name])
    return dict(raw)


def _tasks(fields: dict[str, Any]) -> list[Any]:
    tasks = fields.get("tasks")
    if tasks in (None, [], {}):
        raise Refused.because(Code.GRAPH_EMPTY, "tasks", "a DAG needs at least one task")
    if isinstance(tasks, Mapping):
        tasks = [{"task_id": name, **body} if isinstance(body, Mapping) else body for name, body in tasks.items()]
    if not isinstance(tasks, list):
        raise Refused.because(Code.SPEC_INVALID, "tasks", "must be a list of tasks", got=tasks)
    if len(tasks) > limits.max_tasks():
        raise Refused.because(
            Code.GRAPH_TOO_LARGE,
            "tasks",
            f"at most {limits.max_tasks()} tasks (setting DAG_AUTHOR_MAX_TASKS)",
            got=f"{len(tasks)} tasks",
        )
    return tasks


def _renamed(raw: Mapping[Any, Any], aliases: Mapping[str, str], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in raw.items():
        if not isinstance(key, str):
            raise Refused.because(Code.SPEC_INVALID, where, "field names must be text", got=key)
        name = aliases.get(key, key)
        if name in found and found[name] != value:
            raise Refused.because(Code.SPEC_INVALID, f"{where}.{key}", f"says something else than {name}", got=value)
        found[name] = value
    return found


def _dag_fields(raw: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    fields = _renamed(raw, DAG_ALIASES, "spec")
    fields.pop("project_id", None)
    asked = [name for name in ("email_on_failure", "email_on_retry") if _truth(fields.pop(name, False)) is True]
    notes += [f"{name} is ignored: Airflow 3 has no such option, use a notifier." for name in asked]
    for name in _DAG_NUMBERS:
        _number(fields, name)
    for name in ("catchup", "depends_on_past"):
        if name in fields:
            fields[name] = _truth(fields[name])
    for name in ("description", "owner", "timezone", "start_date"):
        if fields.get(name, 0) is None:
            del fields[name]
    if isinstance(fields.get("dag_name"), str):
        fields["dag_name"] = _spaced(fields["dag_name"])
    if isinstance(fields.get("owner"), str):
        fields["owner"] = _spaced(fields["owner"])
    if "tags" in fields:
        fields["tags"] = _tags(fields["tags"])
    if fields.get("schedule_interval") == "None":
        raise Refused.because(
            Code.SCHEDULE_INVALID,
            "schedule_interval",
            'the text "None" is no schedule',
            allowed="null, a cron text",
        )
    return fields


def _tags(value: object) -> object:
    if value is None:
        return []
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        return value
    return sorted({_spaced(part) for part in parts} - {""})


def _task_fields(raw: object, index: int, notes: list[str]) -> dict[str, Any]:
    where = f"tasks[{index}]"
    if not isinstance(raw, Mapping):
        raise Refused.because(Code.SPEC_INVALID, where, "must be an object", got=raw)
    fields = _renamed(raw, TASK_ALIASES, where)
    fields.pop("provide_context", None)  # both Airflow majors refuse it; the context is always handed over
    for name in [name for name, value in fields.items() if value is None]:
        del fields[name]  # absent and null mean the same for every field of a task
    for name in _TASK_NUMBERS:
        _number(fields, name)
    if isinstance(fields.get("task_type"), str):
        fields["task_type"] = _task_type(fields["task_type"])
    elif "task_type" not in fields:
        _guess_type(fields)
    if isinstance(fields.get("dependencies"), str):
        fields["dependencies"] = [fields["dependencies"]]
    if isinstance(fields.get("trigger_rule"), str):
        fields["trigger_rule"] = fields["trigger_rule"].strip().lower()
    if "append_env" in fields:
        fields["append_env"] = _truth(fields["append_env"])
    for name in ("python_code", "bash_command"):
        wanted = ("bash_command",) if fields.get("task_type") == "bash" else ("python_code",)
        if fields.get(name) == "" and name not in wanted:
            del fields[name]  # models fill the field of the other kind with an empty text
    return fields


def _guess_type(fields: dict[str, Any]) -> None:
    bodies = [
        kind for kind, name in (("python", "python_code"), ("bash", "bash_command"), ("sql", "sql")) if name in fields
    ]
    if len(bodies) == 1:
        fields["task_type"] = bodies[0]


def _task_type(text: str) -> str:
    name = re.sub(r"Operator$", "", text.strip(), flags=re.IGNORECASE).lower().replace("-", "_").replace(" ", "_")
    name = name.removesuffix("_")
    return TYPE_ALIASES.get(name, name)


def _number(fields: dict[str, Any], name: str) -> None:
    value = fields.get(name)
    worded = isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,9}\s*", value)
    if isinstance(value, str | float) and (worded or (isinstance(value, float) and value.is_integer())):
        fields[name] = int(value)


def _truth(value: object) -> object:
    return _WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value


def _spaced(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _problems(fault: ValidationError, fields: dict[str, Any]) -> list[Problem]:
    return [_problem(dict(error), fields) for error in fault.errors(include_url=False)[:50]]


def _problem(error: dict[str, Any], fields: dict[str, Any]) -> Problem:
    place = [part for part in error["loc"] if part not in TASK_TYPES]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    known = {code.value: code for code in Code}
    allowed = ""
    if error["type"] == "extra_forbidden":
        fields_here = _fields_here(place, fields)
        near = nearest(str(place[-1]), fields_here)
        allowed = f"did you mean {near}?" if near else ", ".join(fields_here)
    elif error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path += ".task_type"
        allowed = ", ".join(TASK_TYPES)
    elif "expected" in (error.get("ctx") or {}):
        allowed = str(error["ctx"]["expected"])
    got = "" if error["type"] in ("missing", "union_tag_not_found") else shown(error.get("input"))
    if error["type"] == "union_tag_invalid":
        got = shown(error["ctx"]["tag"])
    return Problem(
        code=known.get(error["type"], Code.SPEC_INVALID),
        path=path or "spec",
        rule=_rule(error),
        got=got,
        allowed=allowed,
    )


def _rule(error: dict[str, Any]) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "is not a known field"
        case "missing":
            return "is required"
        case "union_tag_invalid" | "union_tag_not_found":
            return "must be a known task type"
        case _:
            return str(error["msg"])


def _fields_here(place: list[Any], fields: dict[str, Any]) -> list[str]:
    if len(place) >= 2 and place[0] == "tasks" and isinstance(place[1], int):
        task = fields["tasks"][place[1]]
        return fields_of(str(task.get("task_type", "")))
    return list(DagSpec.model_fields)
