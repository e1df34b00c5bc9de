"""What a server sees of this graph before anybody uses it: it loads fast, and its tables come and go."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from heddle_server.dsn import Dsn
from heddle_server.storage import migrate
from tests.graphs.dag_author.conftest import MIGRATIONS

ROOT = Path(__file__).resolve().parents[3]
HEAVY = (
    "langchain_openai",
    "openai",
    "tiktoken",
    "git",
    "pygit2",
    "jinja2",
    "asyncpg",
    "croniter",
    "sqlalchemy",
)


def test_loading_the_graph_loads_no_heavy_library() -> None:
    code = (
        "import sys, langgraph.graph, langchain_core.messages\nbefore = set(sys.modules)\n"
        "import graphs.dag_author.graph\n"
        f"print(sorted((set(sys.modules) - before) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_agent_json_names_graphs_that_load() -> None:
    for entry in json.loads((ROOT / "agent.json").read_text())["graphs"].values():
        file, _, name = entry["path"].partition(":")
        code = (
            "import importlib.util, sys\nsys.path.insert(0, '.')\n"
            f"spec = importlib.util.spec_from_file_location('loaded', {file!r})\n"
            "module = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)\n"
            f"module.{name}.get_graph().draw_mermaid()"
        )
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", sorted((ROOT / "graphs").rglob("*.py")), ids=lambda path: str(path.name))
def test_a_graph_imports_nothing_of_the_server(path: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    own = {"dag_author", "approval"} - {path.relative_to(ROOT / "graphs").parts[0]}
    forbidden = ("heddle_core", "heddle_server", "heddle_cli", *(f"graphs.{name}" for name in own))
    assert not [name for name in names if name.startswith(forbidden)]


async def test_the_tables_come_and_go_with_data_inside(database: Dsn) -> None:
    await migrate.upgrade(database, [MIGRATIONS])
    with psycopg.connect(database.libpq_url(), autocommit=True) as conn:
        conn.execute(
            "INSERT INTO user_dags (id, project_id, user_id, dag_id, dag_name, file_path) "
            "SELECT '00000000-0000-0000-0000-000000000001', p, p, 'a', 'a', 'a' "
            "FROM (SELECT '00000000-0000-0000-0000-000000000002'::uuid AS p) s"
        )
        conn.execute("UPDATE user_dags SET dag_name = 'b'")
        columns = [c.name for c in conn.execute("SELECT * FROM user_dags").description or ()]
    assert columns == [
        "id", "project_id", "user_id", "dag_id", "dag_name", "description", "file_path", "schedule_interval",
        "owner", "tags", "task_count", "is_active", "created_at", "updated_at", "commit_id",
    ]  # fmt: skip
    await migrate.downgrade(database, "dag_author@base", [MIGRATIONS])
    with psycopg.connect(database.libpq_url()) as conn:
        left = conn.execute("SELECT relname FROM pg_class WHERE relname IN ('user_dags', 'project_commits')").fetchall()
    assert left == []
    await migrate.upgrade(database, [MIGRATIONS])
