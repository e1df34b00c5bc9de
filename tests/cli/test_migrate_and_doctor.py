"""`heddle migrate` and `heddle doctor` with real databases."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from heddle_server.dsn import Dsn
from tests.cli.commands import free_port, heddle

GRAPH = """
from langgraph.graph import START, MessagesState, StateGraph
graph = StateGraph(MessagesState).add_node("one", lambda state: {}).add_edge(START, "one")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one.py").write_text(GRAPH)
    (tmp_path / "agent.json").write_text(json.dumps({"graphs": {"one": "./one.py:graph"}}))
    return tmp_path


def test_an_empty_database_goes_up_and_down_and_says_where_it_is(folder: Path, empty_database: Dsn) -> None:
    url = empty_database.libpq_url()

    def migrate(*words: str) -> tuple[int, str]:
        done = heddle("migrate", *words, cwd=folder, DATABASE_URL=url)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    assert "is at base" in migrate("current")[1]
    code, said = migrate("check")
    assert code == 1
    assert "fix: run `heddle migrate up`" in said
    newest = migrate("history")[1].splitlines()[-1].split()[0]
    assert f"is at {newest}" in migrate("up")[1]
    assert migrate("check")[0] == 0
    assert "is at base" in migrate("down", "base")[1]
    assert migrate("up")[0] == 0


@pytest.mark.parametrize("action", [["up"], ["check"], ["current"], ["history"], ["down", "base"]])
def test_the_project_file_may_be_named_before_and_after_the_action(
    folder: Path, database: Dsn, action: list[str]
) -> None:
    named = ["--config", str(folder / "agent.json")]
    (folder / "elsewhere").mkdir()
    for words in ([*named, *action], [*action, *named]):
        done = heddle("migrate", *words, cwd=folder / "elsewhere", DATABASE_URL=database.libpq_url())
        assert done.returncode == 0, done.stderr
        if action == ["down", "base"]:
            heddle("migrate", "up", *named, cwd=folder, DATABASE_URL=database.libpq_url())


def test_a_revision_nobody_knows_is_one_message(folder: Path, empty_database: Dsn) -> None:
    done = heddle("migrate", "up", "nonsense", cwd=folder, DATABASE_URL=empty_database.libpq_url())
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_migrate_works_on_the_embedded_database_too(folder: Path) -> None:
    assert heddle("migrate", "up", cwd=folder).returncode == 0
    assert heddle("migrate", "check", cwd=folder).returncode == 0


def test_a_healthy_project_has_no_errors(folder: Path) -> None:
    done = heddle("doctor", cwd=folder, PORT=str(free_port()))
    assert done.returncode == 0, done.stdout
    for subject in ("python", "git", "project", "settings", "data", "database", "graph one", "port"):
        assert any(line.startswith("ok") and f" {subject} " in line for line in done.stdout.splitlines()), done.stdout
    assert "OPENAI_API_KEY" in done.stdout


@pytest.mark.parametrize(
    ("env", "subject", "fix"),
    [
        ({"DATABASE_URL": "postgres://u:hunter2@127.0.0.1:1/app"}, "database", "DATABASE_URL"),
        ({"LOG_LEVEL": "LOUD"}, "settings", "correct it"),
        ({"REDIS_URL": "redis://x"}, "settings", "unset it"),
        ({"PATH": "/nonexistent"}, "git", "apt-get install git"),
    ],
)
def test_every_error_is_named_with_its_fix(folder: Path, env: dict[str, str], subject: str, fix: str) -> None:
    done = heddle("doctor", cwd=folder, **{"PORT": str(free_port()), **env})
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("error"))
    assert f" {subject} " in lines[at]
    assert fix in lines[at + 1]
    assert "hunter2" not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_graph_that_does_not_import_is_an_error_and_the_others_are_still_checked(folder: Path) -> None:
    (folder / "bad.py").write_text("import no_such_module\n")
    graphs = {"bad": "./bad.py:graph", "one": "./one.py:graph"}
    (folder / "agent.json").write_text(json.dumps({"graphs": graphs}))
    done = heddle("doctor", cwd=folder, PORT=str(free_port()))
    assert done.returncode == 1
    assert "no_such_module" in done.stdout
    assert any(line.startswith("ok") and "graph one" in line for line in done.stdout.splitlines())


def test_a_taken_port_and_an_open_data_folder_are_warnings(folder: Path) -> None:
    (folder / ".heddle").mkdir()
    (folder / ".heddle").chmod(0o755)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = heddle("doctor", cwd=folder, PORT=str(taken.getsockname()[1]))
    assert done.returncode == 0
    assert "is taken by another program" in done.stdout
    assert "chmod 700" in done.stdout
