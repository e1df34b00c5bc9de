"""The DAG agent behind a real server, and a look at what it left in git, in the tables and on the disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from psycopg.rows import dict_row

from heddle_server.dsn import Dsn
from tests.support.server import ROOT, Server, serving

LOCAL = UUID("00000000-0000-0000-0000-000000000001")
DEMO = (
    "/agent create daily pipeline that extracts orders from postgres, aggregates revenue per country "
    "and emails a report at 6am"
)


@dataclass(slots=True, kw_only=True)
class DagWorld:
    """`server` runs the project file of the repository; `folder` holds its data."""

    server: Server
    database: Dsn
    folder: Path

    def client(self) -> LangGraphClient:
        return get_client(url=self.server.url, api_key=None)

    @property
    def repositories(self) -> Path:
        return self.folder / "data" / "projects"

    def rows(self, table: str, project: UUID = LOCAL) -> list[dict[str, Any]]:
        with psycopg.connect(self.database.libpq_url(), row_factory=dict_row) as conn:
            query = f"SELECT * FROM public.{table} WHERE project_id = %s ORDER BY created_at"
            return conn.execute(query.encode(), [project]).fetchall()

    def ask(self, query: str) -> Any:
        with psycopg.connect(self.database.libpq_url(), autocommit=True) as conn:
            cursor = conn.execute(query.encode())
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def git(self, *arguments: str, project: UUID = LOCAL) -> str:
        where = str(self.repositories / f"{project}.git")
        command = ["git", "-c", "safe.directory=*", "-C", where, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def snapshot(self, project: UUID = LOCAL) -> tuple[object, ...]:
        """All that a request must leave as it was when it comes to nothing."""
        return (
            self.git("rev-parse", "main", project=project),
            self.git("ls-tree", "-r", "--name-only", "main", project=project),
            *(len(self.rows(table, project)) for table in ("user_dags", "project_commits", "file_versions")),
        )

    def waits_for_a_lock(self) -> bool:
        """Whether the agent stands before a lock of the database."""
        backends = "pg_stat_activity WHERE application_name = 'heddle-graph' AND datname = current_database()"
        return bool(self.ask(f"SELECT count(*) FROM {backends} AND wait_event_type = 'Lock'"))


@contextmanager
def dag_world(database: Dsn, folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[DagWorld]:
    """A server for the real project file on this database and below this folder."""
    url = database.libpq_url()
    with serving(url, folder, config=ROOT / "agent.json", name="dags", environment=environment) as server:
        yield DagWorld(server=server, database=database, folder=folder)


def words(message: str | list[Any]) -> dict[str, Any]:
    """An input that says this."""
    return {"messages": [{"role": "user", "content": message}]}


def answer(values: Any) -> str:
    """The text of the agent's last message."""
    last = values["messages"][-1]
    assert last["type"] == "ai"
    return str(last["content"])
