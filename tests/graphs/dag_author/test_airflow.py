"""What this agent writes, imported by real Airflows of both majors in environments of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from graphs.dag_author import checks, planner_rules, reading, render, roundtrip
from graphs.dag_author.operators import OPERATORS
from graphs.dag_author.plan import Plan
from tests.graphs.dag_author.test_create import DEMO
from tests.support.require import require

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.airflow

SCRIPT = """
import inspect, json, sys
try:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization as Serializer
except ImportError:
    from airflow.models.dagbag import DagBag
    from airflow.serialization.serialized_objects import SerializedDAG as Serializer
known = inspect.signature(DagBag.__init__).parameters
examples = {"include_examples": False} if "include_examples" in known else {}
bag = DagBag(dag_folder=sys.argv[1], safe_mode=False, **examples)
for dag in bag.dags.values():
    Serializer.to_dict(dag)
found = {d.dag_id: {t.task_id: sorted(t.upstream_task_ids) for t in d.tasks} for d in bag.dags.values()}
print("RESULT " + json.dumps({"errors": bag.import_errors, "dags": found}))
"""

EVERY_KIND: dict[str, Any] = {
    "dag_name": 'Every "kind" \\ of {{ task }}',
    "description": 'line one\nline """two""" \\',
    "interval_minutes": 90,
    "timezone": "Europe/Paris",
    "start_date": "2024-01-01T06:30:00",
    "tags": ["b", "a"],
    "params": {"size": 3, "names": ["x"]},
    "tasks": [
        {"task_id": "class", "task_type": "python", "python_code": "def go(ds, **kw):\n    return ds"},
        {
            "task_id": "None",
            "task_type": "bash",
            "bash_command": "echo ${#a[@]} '''",
            "env": {"A": "{{ ds }}"},
        },
        {"task_id": "DAG", "task_type": "empty", "dependencies": ["class", "None"]},
        {
            "task_id": "2nd",
            "task_type": "branch",
            "python_code": "return 'wait_file'",
            "dependencies": ["DAG"],
        },
        {"task_id": "gate", "task_type": "short_circuit", "python_code": "return True"},
        {
            "task_id": "sql",
            "task_type": "sql",
            "conn_id": "postgres",
            "sql": ["select 1", "select %(d)s"],
            "parameters": {"d": "{{ ds }}"},
            "execution_timeout_minutes": 5,
        },
        {
            "task_id": "trigger_dag",
            "task_type": "trigger_dag",
            "trigger_dag_id": "other",
            "conf": {"a": [1, None]},
        },
        {
            "task_id": "wait_file",
            "task_type": "wait_file",
            "filepath": "/data/in.csv",
            "dependencies": ["2nd"],
        },
        {"task_id": "wait_python", "task_type": "wait_python", "python_code": "return True"},
        {"task_id": "wait_time", "task_type": "wait_time", "wait_minutes": 5},
        {
            "task_id": "wait_dag",
            "task_type": "wait_dag",
            "external_dag_id": "other",
            "execution_delta_minutes": 60,
        },
        {
            "task_id": "join",
            "task_type": "empty",
            "dependencies": ["wait_file", "2nd", "gate"],
            "trigger_rule": "none_failed_min_one_success",
            "retries": 0,
            "pool": "default_pool",
        },
    ],
}


def _demo() -> Plan:
    fields, _ = planner_rules.plan(DEMO.removeprefix("/agent create "))
    return checks.check(reading.read(fields).spec, now=datetime.now(UTC))


def _every_kind() -> Plan:
    plan = checks.check(reading.read(EVERY_KIND).spec, now=datetime.now(UTC))
    assert {task.kind for task in plan.tasks} == set(OPERATORS)
    return plan


@pytest.mark.parametrize("major", ["3", "2"])
def test_both_airflow_majors_import_what_is_written(major: str, tmp_path: Path) -> None:
    python = ROOT / ".airflow" / major / "bin" / "python"
    stamps = list((ROOT / ".airflow" / major).glob(".installed-*"))
    require("airflow", python.exists() and bool(stamps), "make airflow")
    plans = [_demo(), _every_kind()]
    folder = tmp_path / "dags"
    folder.mkdir()
    for plan in plans:
        text = render.render(plan)
        roundtrip.verify(text, plan)
        (folder / f"{plan.dag_id}.py").write_text(text, encoding="utf-8")
    (tmp_path / "check.py").write_text(SCRIPT)
    home = tmp_path / "home"
    home.mkdir()
    env = {
        "PATH": os.defpath,
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [python, tmp_path / "check.py", folder],
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    found = json.loads(line.removeprefix("RESULT "))
    assert found["errors"] == {}
    assert found["dags"] == {
        plan.dag_id: {task.task_id: sorted(task.upstream) for task in plan.tasks} for plan in plans
    }
    assert not list(folder.glob("__pycache__"))
    shutil.rmtree(home)
