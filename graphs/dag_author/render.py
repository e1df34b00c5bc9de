"""From a plan to the text of one file that loads in Airflow 2.9 and later and in Airflow 3.

The same plan gives the same bytes. Every text of a user goes through `repr`, so it can only ever be a
constant; the docstring is the one exception and is stripped of all that could end it.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2

from graphs.dag_author.operators import OPERATORS
from graphs.dag_author.plan import Plan, PlannedTask, Value

_DS_NOTE = "`ds` is the day the run starts in Airflow 3, and the day before in Airflow 2."


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A piece of source that this module wrote itself."""

    source: str


def pyrepr(value: Value) -> str:
    """A value as the Python expression that makes it."""
    if isinstance(value, Expression):
        return value.source
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, timedelta):
        return _delta(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(pyrepr(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{pyrepr(key)}: {pyrepr(item)}" for key, item in value.items()) + "}"
    raise TypeError(f"a DAG file cannot hold a {type(value).__name__}")


def render(plan: Plan) -> str:
    """The text of the DAG file."""
    imports_3, imports_2, imports_both = _imports(plan.tasks)
    position = {task.task_id: index for index, task in enumerate(plan.tasks)}
    return _TEMPLATE.render(
        title=_docstring_line(plan.name),
        summary=_docstring_line(plan.description),
        note=_DS_NOTE if plan.uses_ds else "",
        digest=plan.digest,
        imports_3=imports_3,
        imports_2=imports_2,
        imports_both=imports_both,
        functions=[task.function.rstrip("\n") + "\n" for task in plan.tasks if task.function],
        dag_arguments=_dag_arguments(plan),
        tasks=[_task(task) for task in plan.tasks],
        edges=[_edge(task, position) for task in plan.tasks if task.upstream],
    )


def _dag_arguments(plan: Plan) -> list[tuple[str, Any]]:
    schedule: Any = plan.schedule.interval if plan.schedule.interval is not None else plan.schedule.text
    arguments: list[tuple[str, Any]] = [
        ("dag_id", plan.dag_id),
        ("dag_display_name", plan.name),
        ("description", plan.description or None),
        ("schedule", schedule),
        ("start_date", start_expression(plan)),
        ("catchup", plan.catchup),
        ("max_active_runs", plan.max_active_runs),
        ("default_args", dict(plan.default_args)),
        ("tags", list(plan.tags)),
    ]
    if plan.params is not None:
        arguments.append(("params", plan.params))
    return arguments


def start_expression(plan: Plan) -> Expression:
    start = plan.start
    numbers = [start.year, start.month, start.day]
    clock = [start.hour, start.minute, start.second]
    while clock and clock[-1] == 0:
        clock.pop()
    return Expression(source=f"pendulum.datetime({', '.join(map(str, numbers + clock))}, tz={plan.zone!r})")


def _task(task: PlannedTask) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "operator": OPERATORS[task.kind].name,
        "callable": f"_run_{task.task_id}" if task.function else None,
        "arguments": task.arguments,
    }


def _edge(task: PlannedTask, position: Mapping[str, int]) -> str:
    upstream = [f"t_{name}" for name in sorted(task.upstream, key=lambda name: position[name])]
    before = upstream[0] if len(upstream) == 1 else f"[{', '.join(upstream)}]"
    return f"{before} >> t_{task.task_id}"


_Imports = list[tuple[str, str]]


def _imports(tasks: Iterable[PlannedTask]) -> tuple[_Imports, _Imports, _Imports]:
    used = {OPERATORS[task.kind].name: OPERATORS[task.kind] for task in tasks}.values()
    apart = [operator for operator in used if not operator.same_in_both]
    both = [(operator.airflow_3, operator.name) for operator in used if operator.same_in_both]
    three = [(operator.airflow_3, operator.name) for operator in apart] + [("airflow.sdk", "DAG")]
    two = [(operator.airflow_2, operator.name) for operator in apart] + [("airflow", "DAG")]
    return _grouped(three), _grouped(two), _grouped(both)


def _grouped(imports: list[tuple[str, str]]) -> _Imports:
    by_module: dict[str, list[str]] = defaultdict(list)
    for module, name in imports:
        by_module[module].append(name)
    return [(module, ", ".join(sorted(names))) for module, names in sorted(by_module.items())]


def _delta(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    return f"timedelta(seconds={seconds})" if seconds % 60 else f"timedelta(minutes={seconds // 60})"


def _docstring_line(text: str) -> str:
    printable = "".join(
        " " if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else letter for letter in text
    )
    line = " ".join(printable.replace("\\", " ").replace('"', "'").split())
    return line[:200].rstrip() or "A DAG"


# The output is Python, not HTML: `pyrepr` is what makes text harmless.
_ENVIRONMENT = jinja2.Environment(  # nosec B701
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=False,
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters["pyrepr"] = pyrepr
_TEMPLATE = _ENVIRONMENT.get_template("dag.py.j2")
