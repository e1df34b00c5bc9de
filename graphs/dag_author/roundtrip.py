"""Level 1 of the validation ladder: the rendered text is compiled, parsed back and compared with its plan.

A difference means that rendering is wrong, or that some text escaped its quotes: nothing may be written.
The same reader serves files that are in a repository already.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from graphs.dag_author.operators import OPERATORS
from graphs.dag_author.plan import Plan
from graphs.dag_author.problems import Code, Refused
from graphs.dag_author.render import start_expression
from graphs.dag_author.schedule import Schedule

_KINDS = {operator.name: kind for kind, operator in OPERATORS.items()}


class NotADag(Exception):
    """The file is not of the shape this agent writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTask:
    task_id: str
    kind: str
    arguments: Mapping[str, Any]
    callable: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDag:
    """What a DAG file says, read without running it. Values that are not literals are source text."""

    arguments: Mapping[str, Any]
    tasks: tuple[FoundTask, ...]
    edges: frozenset[tuple[str, str]]
    functions: Mapping[str, str]

    @property
    def dag_id(self) -> str:
        return str(self.arguments.get("dag_id", ""))

    def upstream(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {task.task_id: [] for task in self.tasks}
        for before, after in sorted(self.edges):
            found.setdefault(after, []).append(before)
        return found


def verify(text: str, plan: Plan) -> None:
    """Refused with `render_mismatch` unless the text says what the plan says and nothing else."""
    try:
        compile(text, plan.path, "exec", dont_inherit=True)
        found = read(text)
    except (SyntaxError, ValueError, NotADag, RecursionError) as fault:
        raise _mismatch("the rendered file does not parse", str(fault)) from fault
    for what, said, meant in _pairs(found, plan):
        if said != meant:
            raise _mismatch(f"the {what} of the rendered file differ from the plan", plan.dag_id)
    stray = [type(node).__name__ for node in ast.parse(text).body if not isinstance(node, _TOP_LEVEL)]
    if len(stray) != 1:  # the docstring
        raise _mismatch("the rendered file holds statements nobody planned", ", ".join(stray))


_TOP_LEVEL = (ast.Import, ast.ImportFrom, ast.Try, ast.FunctionDef, ast.With)


def read(text: str) -> FoundDag:
    """The DAG in the text of a file; NotADag when there is none of our shape."""
    tree = ast.parse(text)
    block = next((node for node in tree.body if isinstance(node, ast.With) and _is_dag(node)), None)
    if block is None:
        raise NotADag("there is no `with DAG(...)` at the top level")
    call = block.items[0].context_expr
    assert isinstance(call, ast.Call)
    tasks: dict[str, FoundTask] = {}
    edges: set[tuple[str, str]] = set()
    for node in block.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            tasks[node.targets[0].id] = _task(node.value)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.BinOp):
            edges |= _edges(node.value, tasks)
        else:
            raise NotADag(f"line {node.lineno} is neither a task nor a dependency")
    return FoundDag(
        arguments={word.arg: _value(word.value) for word in call.keywords if word.arg},
        tasks=tuple(tasks.values()),
        edges=frozenset(edges),
        functions={node.name: ast.dump(node) for node in tree.body if isinstance(node, ast.FunctionDef)},
    )


def zone_of(dag: FoundDag) -> str:
    """The zone of the start date, which is the zone of the DAG."""
    try:
        call = ast.parse(str(dag.arguments.get("start_date")), mode="eval").body
    except SyntaxError:
        return "UTC"
    words = call.keywords if isinstance(call, ast.Call) else []
    zone = next((word.value for word in words if word.arg == "tz"), None)
    return zone.value if isinstance(zone, ast.Constant) and isinstance(zone.value, str) else "UTC"


def stored_schedule(value: object) -> str | None:
    """The schedule of a file in the form kept in the table of DAGs."""
    if isinstance(value, timedelta):
        return Schedule(interval=value).stored
    return None if value is None else str(value)


def _pairs(found: FoundDag, plan: Plan) -> list[tuple[str, object, object]]:
    interval = plan.schedule.interval
    arguments = {
        "dag_id": plan.dag_id,
        "dag_display_name": plan.name,
        "description": plan.description or None,
        "schedule": plan.schedule.text if interval is None else interval,
        "start_date": ast.unparse(ast.parse(start_expression(plan).source, mode="eval")),
        "catchup": plan.catchup,
        "max_active_runs": plan.max_active_runs,
        "default_args": dict(plan.default_args),
        "tags": list(plan.tags),
    } | ({} if plan.params is None else {"params": plan.params})
    tasks = [
        (task.task_id, task.kind, dict(task.arguments), f"_run_{task.task_id}" if task.function else None)
        for task in plan.tasks
    ]
    functions = {
        f"_run_{task.task_id}": ast.dump(ast.parse(task.function).body[0]) for task in plan.tasks if task.function
    }
    return [
        ("arguments", dict(found.arguments), arguments),
        ("tasks", [(t.task_id, t.kind, dict(t.arguments), t.callable) for t in found.tasks], tasks),
        ("dependencies", set(found.edges), {(up, t.task_id) for t in plan.tasks for up in t.upstream}),
        ("functions", dict(found.functions), functions),
    ]


def _is_dag(node: ast.With) -> bool:
    call = node.items[0].context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "DAG"


def _task(call: ast.Call) -> FoundTask:
    name = call.func.id if isinstance(call.func, ast.Name) else ast.unparse(call.func)
    arguments = {word.arg: _value(word.value) for word in call.keywords if word.arg}
    callable_name = arguments.pop("python_callable", None)
    task_id = arguments.pop("task_id", None)
    if not isinstance(task_id, str):
        raise NotADag(f"the operator on line {call.lineno} has no literal task_id")
    return FoundTask(task_id=task_id, kind=_KINDS.get(name, name), arguments=arguments, callable=callable_name)


def _edges(node: ast.BinOp, tasks: Mapping[str, FoundTask]) -> set[tuple[str, str]]:
    if not isinstance(node.op, ast.RShift):
        raise NotADag(f"line {node.lineno} is not a dependency")
    return {(before, after) for before in _ids(node.left, tasks) for after in _ids(node.right, tasks)}


def _ids(node: ast.expr, tasks: Mapping[str, FoundTask]) -> list[str]:
    names = node.elts if isinstance(node, ast.List) else [node]
    found = []
    for name in names:
        if not isinstance(name, ast.Name) or name.id not in tasks:
            raise NotADag(f"line {node.lineno} joins something that is no task")
        found.append(tasks[name.id].task_id)
    return found


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "timedelta":
        return timedelta(**{str(word.arg): ast.literal_eval(word.value) for word in node.keywords})
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _mismatch(rule: str, got: str) -> Refused:
    return Refused.because(
        Code.RENDER_MISMATCH, "file", f"{rule}; this is a fault of the agent, nothing was written", got=got
    )
