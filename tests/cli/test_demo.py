"""`heddle demo`: from one sentence to a committed DAG, on nothing but this machine."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

from tests.cli.commands import ROOT, heddle, project


def test_the_demo_makes_three_tasks_in_a_line_every_day_at_six_and_cleans_up(tmp_path: Path) -> None:
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    more = {"OPENAI_API_KEY": "sk-not-used", "TMPDIR": str(temporary)}
    done = heddle("demo", "--config", str(ROOT / "agent.json"), cwd=here, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r"^  - (\w+)", done.stdout, re.MULTILINE)
    assert steps[:2] == ["planning", "validating"]
    assert "done" in steps
    assert re.search(r"Commit: `[0-9a-f]{40}`", done.stdout)
    assert "schedule='0 6 * * *'" in done.stdout
    source = done.stdout.partition("```python\n")[2].partition("```")[0]
    kinds = re.findall(r"^    t_\w+ = (\w+)\(", source, re.MULTILINE)
    assert kinds == ["SQLExecuteQueryOperator", "SQLExecuteQueryOperator", "PythonOperator"]
    assert len(re.findall(r"^    t_\w+ >> t_\w+$", source, re.MULTILINE)) == 2
    assert "flowchart" in done.stdout
    assert list(here.iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert [p for p in psutil.process_iter(["cwd"]) if (p.info["cwd"] or "").startswith(str(tmp_path))] == []


def test_a_project_without_the_agent_is_told_where_the_demo_runs(tmp_path: Path) -> None:
    done = heddle("demo", cwd=project(tmp_path / "p"))
    assert done.returncode == 1
    assert "has no graph dag_author" in done.stderr
