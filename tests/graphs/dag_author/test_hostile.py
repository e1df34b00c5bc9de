"""Input that means harm, or is only very large or very strange."""

from __future__ import annotations

import ast
import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphs.dag_author import checks, planner_rules, reading, render, roundtrip
from graphs.dag_author.plan import Plan
from graphs.dag_author.problems import Code, Refused
from tests.graphs.dag_author.conftest import World, answer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EMPTY = {"task_id": "a", "task_type": "empty"}


def _made(spec: Any) -> tuple[Plan, str]:
    plan = checks.check(reading.read(spec).spec, now=NOW)
    text = render.render(plan)
    roundtrip.verify(text, plan)
    return plan, text


def _code(spec: Any) -> Code:
    with pytest.raises(Refused) as refusal:
        _made(spec)
    return refusal.value.problems[0].code


def _bash(text: str, **more: Any) -> dict[str, Any]:
    return {"dag_name": "x", "tasks": [{"task_id": "a", "task_type": "bash", "bash_command": text}], **more}


NASTY = [
    '"""',
    "'''",
    "\\",
    '\\"""',
    "a\nimport os",
    "{{ ds }}",
    "{% raw %}",
    "'); __import__('os').system('id') #",
    "\u2028x",
    "\u202eabc",
    "é日本🎉",
    "\t\r\n",
    "${#a[@]} {{.Names}} {% endraw %}",
    "x.sh",
]


@pytest.mark.parametrize("text", NASTY)
def test_no_text_of_a_spec_becomes_code(text: str) -> None:
    spec = _bash(f"echo {text}", description=text, tags=[f"t{text}"[:90].replace("\n", " ")])
    spec["dag_name"] = f"n {text}"
    try:
        _, rendered = _made(spec)
    except Refused:
        return
    assert "system('id')" not in _code_outside_constants(rendered)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.text(min_size=1, max_size=60), text=st.text(max_size=200), value=st.text(max_size=80))
def test_whatever_the_texts_only_constants_differ(name: str, text: str, value: str) -> None:
    tasks = [
        {"task_id": "a", "task_type": "bash", "bash_command": f"x{text}", "env": {"A": value}},
        {"task_id": "b", "task_type": "sql", "conn_id": "c", "sql": f"x{text}", "parameters": {"v": value}},
    ]
    try:
        _, rendered = _made(
            {"dag_name": name, "dag_id": "fixed", "description": text, "params": {"p": value}, "tasks": tasks}
        )
        _, plain = _made({"dag_name": "n", "dag_id": "fixed", "description": "d", "params": {"p": "v"}, "tasks": tasks})
    except Refused:
        return
    assert _shape(rendered) == _shape(plain)


def _shape(text: str) -> str:
    """The file with every constant taken out."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = None
    return ast.dump(tree)


def _code_outside_constants(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = None
    return ast.unparse(tree)


@pytest.mark.parametrize(
    ("name", "dag_id"),
    [
        ("Orders rollup", "orders_rollup"),
        ("2nd try", "dag_2nd_try"),
        ("json", "json_dag"),
        ("Pandas", "pandas_dag"),
        ("__init__", "init"),
        ("../../etc/passwd", "etc_passwd"),
        (".git/hooks/x", "git_hooks_x"),
        ("Ünïcode Näme", "unicode_name"),
        ("class", "class_dag"),
        ("x" * 400, "x" * 100),
    ],
)
def test_names_become_ids(name: str, dag_id: str) -> None:
    assert _made({"dag_name": name, "tasks": [EMPTY]})[0].dag_id == dag_id


@pytest.mark.parametrize("name", ["🎉🎉", "日本語のダグ", "!!!"])
def test_a_name_without_latin_letters_gets_an_id_of_its_own(name: str) -> None:
    first = _made({"dag_name": name, "tasks": [EMPTY]})[0]
    assert first.dag_id.startswith("x")
    assert len(first.dag_id) == 9
    assert first.dag_id != _made({"dag_name": name + "!!", "tasks": [EMPTY]})[0].dag_id or name == "!!!"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"tasks": []}, Code.GRAPH_EMPTY),
        ({"tasks": [EMPTY, EMPTY]}, Code.GRAPH_DUPLICATE_ID),
        ({"tasks": [EMPTY | {"dependencies": ["a"]}]}, Code.GRAPH_CYCLE),
        ({"tasks": [EMPTY | {"dependencies": ["b"]}]}, Code.GRAPH_UNKNOWN_DEPENDENCY),
        ({"tasks": [EMPTY | {"task_type": "rocket"}]}, Code.SPEC_INVALID),
        ({"tasks": [EMPTY | {"bash_command": "x"}]}, Code.SPEC_INVALID),
        ({"tasks": ["a"]}, Code.SPEC_INVALID),
        ({"tasks": [{"task_id": "a", "task_type": "bash", "bash_command": "  \n"}]}, Code.BASH_EMPTY),
        ({"tasks": [{"task_id": "a", "task_type": "bash", "bash_command": "a\x00b"}]}, Code.SPEC_INVALID),
        ({"tasks": [{"task_id": "a", "task_type": "bash", "bash_command": "a\ud800b"}]}, Code.SPEC_INVALID),
        ({"tasks": [{"task_id": "a", "task_type": "python", "python_code": "x ="}]}, Code.CODE_SYNTAX),
        (
            {"tasks": [{"task_id": "a", "task_type": "python", "python_code": "from os import *"}]},
            Code.CODE_SYNTAX,
        ),
        ({"tasks": [{"task_id": "a", "task_type": "python", "python_code": "(" * 5000}]}, Code.CODE_SYNTAX),
        (
            {"tasks": [{"task_id": "a", "task_type": "python", "python_code": "def p(): 1\ndef q(): 2"}]},
            Code.CODE_ENTRY_UNCLEAR,
        ),
        ({"schedule_interval": "@reboot"}, Code.SCHEDULE_INVALID),
        ({"schedule_interval": "* * * *"}, Code.SCHEDULE_INVALID),
        ({"schedule_interval": "* * * * * *"}, Code.SCHEDULE_INVALID),
        ({"schedule_interval": "H * * * *"}, Code.SCHEDULE_INVALID),
        ({"schedule_interval": "0 0 * * 8"}, Code.SCHEDULE_INVALID),
        ({"schedule_interval": "*/0 * * * *"}, Code.SCHEDULE_INVALID),
        ({"schedule_interval": "0 25 * * *"}, Code.SCHEDULE_INVALID),
        ({"schedule_interval": "0 0 L * *"}, Code.SCHEDULE_INVALID),
        ({"schedule_interval": ""}, Code.SCHEDULE_INVALID),
        ({"schedule_interval": "None"}, Code.SCHEDULE_INVALID),
        ({"schedule_interval": "0 0 30 2 *"}, Code.SCHEDULE_NEVER_FIRES),
        ({"schedule_interval": "0 0 * * '"}, Code.SCHEDULE_INVALID),
        ({"timezone": "Mars/Base"}, Code.TIMEZONE_UNKNOWN),
        ({"timezone": "../../etc/passwd"}, Code.TIMEZONE_UNKNOWN),
        ({"start_date": "tomorrow"}, Code.START_DATE_INVALID),
        ({"start_date": "0001-01-01"}, Code.START_DATE_INVALID),
        ({"retries": -1}, Code.SPEC_INVALID),
        ({"retries": 2.5}, Code.SPEC_INVALID),
        ({"retries": True}, Code.SPEC_INVALID),
        ({"params": {"a": None}, "schedule_interval": "@daily"}, Code.SPEC_INVALID),
        ({"params": {"a": float("nan")}}, Code.SPEC_INVALID),
        ({"tags": ["x" * 101]}, Code.SPEC_INVALID),
        ({"tags": [f"t{n}" for n in range(21)]}, Code.SPEC_INVALID),
        ({"dag_id": "../x"}, Code.SPEC_INVALID),
        ({"dag_id": "json"}, Code.SPEC_INVALID),
        ({"owner": "x" * 101}, Code.SPEC_INVALID),
        ({"nonsense": 1}, Code.SPEC_INVALID),
        ({"scheduel": "@daily"}, Code.SPEC_INVALID),
        ({"schedule_interval": "@daily", "interval_minutes": 5}, Code.SCHEDULE_INVALID),
        ({"schedule_interval": "@continuous", "max_active_runs": 3}, Code.SPEC_INVALID),
    ],
)
def test_each_broken_rule_has_its_code(change: dict[str, Any], code: Code) -> None:
    assert _code({"dag_name": "x", "tasks": [EMPTY]} | change) is code


@pytest.mark.parametrize(
    "spec", [None, 7, "text", [], [1, 2], {}, {"dag": 1}, {1: 2}, {"tasks": 7}, {"tasks": {"a": 1}}]
)
def test_what_is_no_spec_at_all_is_refused(spec: Any) -> None:
    assert _code(spec) in (Code.SPEC_INVALID, Code.GRAPH_EMPTY)


def test_names_that_collide_are_told_apart_and_their_edges_follow() -> None:
    names = ["load data", "load-data", "load_data", "class", "None", "2nd", "DAG", "dag"]
    tasks: list[dict[str, Any]] = [{"task_id": name, "task_type": "empty"} for name in names]
    tasks.append({"task_id": "end", "task_type": "empty", "dependencies": ["load-data", "dag", "2nd"]})
    plan, _ = _made({"dag_name": "x", "tasks": tasks})
    assert [task.task_id for task in plan.tasks] == [
        "load_data_2", "load_data_3", "load_data", "class", "None", "2nd", "DAG", "dag", "end",
    ]  # fmt: skip
    assert set(plan.tasks[-1].upstream) == {"load_data_3", "dag", "2nd"}


def test_five_hundred_tasks_are_checked_and_written_fast() -> None:
    spec = {
        "dag_name": "big",
        "tasks": [
            {
                "task_id": f"t{n}",
                "task_type": "bash",
                "bash_command": "echo",
                "dependencies": [f"t{m}" for m in range(max(0, n - 3), n)],
            }
            for n in range(500)
        ],
    }
    started = time.perf_counter()
    plan, _ = _made(spec)
    assert len(plan.tasks) == 500
    assert time.perf_counter() - started < 3


def test_twenty_thousand_tasks_are_refused_fast() -> None:
    spec = {"dag_name": "huge", "tasks": [{"task_id": f"t{n}", "task_type": "empty"} for n in range(20_000)]}
    started = time.perf_counter()
    assert _code(spec) is Code.GRAPH_TOO_LARGE
    assert time.perf_counter() - started < 0.5


def test_a_chain_of_three_thousand_works_when_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAG_AUTHOR_MAX_TASKS", "3000")
    tasks: list[dict[str, Any]] = [EMPTY]
    tasks += [
        {"task_id": f"t{n}", "task_type": "empty", "dependencies": [f"t{n - 1}" if n > 1 else "a"]}
        for n in range(1, 3000)
    ]
    assert len(_made({"dag_name": "deep", "tasks": tasks})[0].tasks) == 3000
    tasks[0] = EMPTY | {"dependencies": ["t2999"]}
    assert _code({"dag_name": "deep", "tasks": tasks}) is Code.GRAPH_CYCLE


@pytest.mark.parametrize(
    "text",
    [
        "a\x00b run x.sh",
        "\ud800 run x.sh",
        "(" * 5000,
        "run " + "a.sh and " * 800,
        "every " * 2000,
        "," * 9000,
        "é" * 9000,
    ],
)
def test_the_rules_survive_any_text(text: str) -> None:
    started = time.perf_counter()
    with contextlib.suppress(Refused):
        _made(planner_rules.plan(text)[0])
    assert time.perf_counter() - started < 5


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=300))
def test_the_rules_answer_any_text_with_a_dag_or_a_refusal(text: str) -> None:
    with contextlib.suppress(Refused):
        _made(planner_rules.plan(text)[0])


async def test_strange_requests_are_answered_and_never_raise(world: World) -> None:
    for text in (
        "/agent create a\x00b \ud800 run x.sh",
        "/agent create " + "x" * 30_000,
        "/agent create \x00",
        "/agent \ud800",
    ):
        values = await world.say(text)
        assert answer(values).encode()
    assert len(world.rows("user_dags")) == 1


async def test_a_strange_spec_is_answered(world: World) -> None:
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    specs: list[dict[str, Any]] = [
        {},
        {"tasks": {}},
        {"dag_name": "x", "tasks": [EMPTY], "params": {"a": deep}},
        {"dag_name": "\x00", "tasks": [EMPTY]},
    ]
    for spec in specs:
        assert (await world.give(spec))["problems"]
    assert world.rows("user_dags") == []
