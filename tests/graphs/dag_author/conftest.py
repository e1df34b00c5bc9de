"""A world for the DAG agent: real Postgres with its tables, a data folder, no model."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from graphs.dag_author.graph import builder
from heddle_cli.postgres import Running
from heddle_server.dsn import Dsn
from heddle_server.storage import migrate
from tests.support.postgres_server import fresh_database, template

MIGRATIONS = Path(__file__).parents[3] / "graphs" / "dag_author" / "migrations"
PROJECT = UUID("00000000-0000-0000-0000-000000000001")


@dataclass(slots=True, kw_only=True)
class World:
    """The agent, driven as a server would drive it, and a look at what it left behind."""

    url: str
    data: Path
    agent: Any = field(default_factory=lambda: builder.compile(checkpointer=InMemorySaver()))
    events: list[Any] = field(default_factory=list)

    async def say(self, text: Any, *, thread: str = "t", project: object = None, **settings: Any) -> dict[str, Any]:
        return await self.run({"messages": [HumanMessage(content=text)]}, thread=thread, project=project, **settings)

    async def give(self, spec: dict[str, Any], *, project: object = None, **settings: Any) -> dict[str, Any]:
        return await self.run({"spec": spec}, thread=str(uuid.uuid4()), project=project, **settings)

    async def run(self, given: Any, *, thread: str, project: object = None, **settings: Any) -> dict[str, Any]:
        configurable = {"thread_id": thread, **settings} | ({"project_id": str(project)} if project else {})
        self.events = []
        values: dict[str, Any] = {}
        async for mode, part in self.agent.astream(
            given, {"configurable": configurable}, stream_mode=["custom", "values"]
        ):
            if mode == "custom":
                self.events.append(part)
            else:
                values = part
        return values

    def rows(self, table: str, project: UUID = PROJECT) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, row_factory=psycopg.rows.dict_row) as conn:
            query = f"SELECT * FROM public.{table} WHERE project_id = %s ORDER BY created_at"
            return conn.execute(query, [project]).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(statement)

    def repository(self, project: UUID = PROJECT) -> Path:
        return self.data / "projects" / f"{project}.git"

    def git(self, *arguments: str, project: UUID = PROJECT) -> str:
        command = ["git", "-c", "safe.directory=*", "-C", str(self.repository(project)), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def files(self, project: UUID = PROJECT) -> list[str]:
        return self.git("ls-tree", "-r", "--name-only", "main", "dags/", project=project).split()

    def snapshot(self) -> tuple[str, int, int, int]:
        """All that a failed request must leave as it was."""
        return (
            self.git("rev-parse", "main"),
            len(self.rows("user_dags")),
            len(self.rows("project_commits")),
            len(self.rows("file_versions")),
        )


@pytest.fixture(scope="session")
def guest_template(postgres: Running) -> str:
    """The name of a database with the server's tables and those of the agent, which each test copies."""

    async def fill(database: Dsn) -> None:
        await migrate.upgrade(database, [MIGRATIONS])

    return template(postgres, "template_dag_author", fill)


@pytest.fixture
def world(postgres: Running, guest_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL", "DAG_AUTHOR_MODEL"):
        monkeypatch.delenv(name, raising=False)
    with fresh_database(postgres, guest_template) as database:
        monkeypatch.setenv("DATABASE_URL", database.libpq_url())
        monkeypatch.setenv("HEDDLE_DATA_DIR", str(tmp_path / "data"))
        yield World(url=database.libpq_url(), data=tmp_path / "data")


def answer(values: dict[str, Any]) -> str:
    """The text of the agent's last message."""
    return str(values["messages"][-1].content)
