"""`heddle serve` with something wrong: one message that names the fix, and an exit code that says no."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import psycopg
import pytest

from heddle_server.dsn import Dsn
from tests.cli.commands import heddle, project
from tests.support.server import free_port, serving


def refusal(folder: Path, *words: str, **environment: str) -> str:
    """What `heddle serve` says when it refuses to start."""
    done = heddle("serve", *words, cwd=folder, HEDDLE_DATA_DIR=str(folder / "data"), **environment)
    assert done.returncode != 0, done.stdout
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    return said


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project with one graph that loads."""
    graph = (
        "from typing import TypedDict\nfrom langgraph.graph import START, StateGraph\n"
        "class S(TypedDict):\n    x: int\n"
        "b = StateGraph(S)\nb.add_node('n', lambda s: s)\nb.add_edge(START, 'n')\ngraph = b.compile()\n"
    )
    return project(tmp_path / "project", graph)


def test_a_taken_port(small: Path, database: Dsn) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refusal(small, "--port", str(port), DATABASE_URL=database.libpq_url())
    assert str(port) in said
    assert "--port" in said


def test_a_database_that_is_not_there(small: Path) -> None:
    address = f"postgresql://somebody:s3cret-word@127.0.0.1:{free_port()}/nowhere"
    said = refusal(small, "--port", str(free_port()), DATABASE_URL=address)
    assert "DATABASE_URL" in said
    assert "s3cret-word" not in said


@pytest.mark.parametrize(
    "graph", ["import no_such_module_anywhere\n", "graph = 1 /0\n", "def graph(:\n", "other = 1\n"]
)
def test_a_graph_that_does_not_load(small: Path, database: Dsn, graph: str) -> None:
    (small / "one.py").write_text(graph)
    said = refusal(small, "--port", str(free_port()), DATABASE_URL=database.libpq_url())
    assert "one.py" in said


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("{", "agent.json"),
        (json.dumps({"graphs": {}}), "graphs"),
        (json.dumps({"graphs": {"one": "./gone.py:graph"}}), "gone.py"),
        (json.dumps({"graphs": {"one": "./one.py:graph"}, "auth": {"path": "./auth.py:auth"}}), "auth"),
        (json.dumps({"graphs": {"one": "./one.py:graph"}, "store": {"index": {"dims": 3}}}), "store.index"),
    ],
)
def test_a_project_file_that_cannot_be_followed(small: Path, database: Dsn, config: str, named: str) -> None:
    (small / "agent.json").write_text(config)
    assert named in refusal(small, "--port", str(free_port()), DATABASE_URL=database.libpq_url())


def test_an_address_that_others_reach(small: Path, database: Dsn) -> None:
    said = refusal(small, "--host", "0.0.0.0", "--port", str(free_port()), DATABASE_URL=database.libpq_url())
    assert "--allow-unauthenticated" in said


def test_a_database_that_is_newer_than_the_code(small: Path, database: Dsn) -> None:
    newer = "heddle_9999"
    with psycopg.connect(database.libpq_url(), autocommit=True) as conn:
        row = conn.execute(
            "SELECT table_schema FROM information_schema.tables WHERE table_name = 'alembic_version'"
        ).fetchone()
        assert row is not None
        conn.execute(f"UPDATE {row[0]}.alembic_version SET version_num = '{newer}'".encode())
    assert "install the newer Heddle again" in refusal(
        small, "--port", str(free_port()), DATABASE_URL=database.libpq_url()
    )
    with psycopg.connect(database.libpq_url()) as conn:
        kept = conn.execute(f"SELECT version_num FROM {row[0]}.alembic_version".encode()).fetchall()
    assert kept == [(newer,)]


async def test_several_processes_starting_at_once_migrate_an_empty_database_once(
    empty_database: Dsn, tmp_path: Path
) -> None:
    def start(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        with serving(empty_database.libpq_url(), folder) as server:
            return server.output()

    for said in await asyncio.gather(*(asyncio.to_thread(start, number) for number in range(3))):
        assert "Traceback" not in said
