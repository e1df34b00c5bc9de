"""All SQL of this agent. One function, one statement; nobody here commits."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

LOCK_SECONDS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class DagRow:
    """A row of `user_dags`, as it is shown to users."""

    dag_id: str
    dag_name: str
    description: str | None
    file_path: str
    schedule_interval: str | None
    owner: str | None
    tags: Sequence[str]
    task_count: int
    commit_id: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRow:
    commit_id: str
    author: str
    message: str
    changed_paths: Sequence[str]
    request_id: str | None


async def lock_project(conn: Any, project: UUID) -> None:
    """Hold the project until the transaction ends; one writer at a time, in all processes."""
    await conn.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", str(project))


async def newest_commit(conn: Any, project: UUID) -> str | None:
    """The commit recorded last."""
    found: str | None = await conn.fetchval(
        "SELECT commit_id FROM public.project_commits WHERE project_id = $1 ORDER BY position DESC LIMIT 1",
        project,
    )
    return found


async def commit_recorded(conn: Any, project: UUID, commit_id: str) -> bool:
    return bool(
        await conn.fetchval(
            "SELECT true FROM public.project_commits WHERE project_id = $1 AND commit_id = $2",
            project,
            commit_id,
        )
    )


async def commit_of_request(conn: Any, project: UUID, request_id: str) -> str | None:
    found: str | None = await conn.fetchval(
        "SELECT commit_id FROM public.project_commits WHERE project_id = $1 AND request_id = $2",
        project,
        request_id,
    )
    return found


async def add_commit(conn: Any, project: UUID, row: CommitRow) -> None:
    """Record a commit as the newest of its project. Call it under the project's lock."""
    await conn.execute(
        """
        INSERT INTO public.project_commits
               (id, project_id, commit_id, author, message, changed_paths, request_id, position)
        SELECT $1, $2, $3, $4, $5, $6, $7, coalesce(max(position), 0) + 1
          FROM public.project_commits WHERE project_id = $2
        """,
        uuid.uuid4(),
        project,
        row.commit_id,
        row.author,
        row.message,
        list(row.changed_paths),
        row.request_id,
    )


async def add_dag(conn: Any, project: UUID, user: UUID, row: DagRow) -> datetime:
    """Record a DAG. One that is there already (a file committed again) is brought up to date."""
    created: datetime = await conn.fetchval(
        """
        INSERT INTO public.user_dags (id, project_id, user_id, dag_id, dag_name, description, file_path,
                                      schedule_interval, owner, tags, task_count, commit_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (project_id, dag_id) DO UPDATE
           SET dag_name = excluded.dag_name, description = excluded.description,
               schedule_interval = excluded.schedule_interval, owner = excluded.owner, tags = excluded.tags,
               task_count = excluded.task_count, commit_id = excluded.commit_id
        RETURNING created_at
        """,
        uuid.uuid4(),
        project,
        user,
        row.dag_id,
        row.dag_name,
        row.description,
        row.file_path,
        row.schedule_interval,
        row.owner,
        list(row.tags),
        row.task_count,
        row.commit_id,
    )
    return created


async def add_file_version(conn: Any, project: UUID, user: UUID, *, path: str, commit_id: str, content: bytes) -> None:
    await conn.execute(
        """
        INSERT INTO public.file_versions (id, project_id, path, commit_id, sha256, size_bytes, modified_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        uuid.uuid4(),
        project,
        path,
        commit_id,
        hashlib.sha256(content).hexdigest(),
        len(content),
        user,
    )


_COLUMNS = """
dag_id, dag_name, description, file_path, schedule_interval, owner, tags, task_count, commit_id, created_at
"""


async def list_dags(conn: Any, project: UUID, limit: int) -> list[DagRow]:
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM public.user_dags WHERE project_id = $1 AND is_active "  # nosec B608
        "ORDER BY created_at, dag_id LIMIT $2",
        project,
        limit,
    )
    return [_dag(row) for row in rows]


async def dag_ids(conn: Any, project: UUID) -> list[str]:
    rows = await conn.fetch("SELECT dag_id FROM public.user_dags WHERE project_id = $1", project)
    return [row["dag_id"] for row in rows]


async def find_dag(conn: Any, project: UUID, dag_id: str) -> DagRow | None:
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM public.user_dags WHERE project_id = $1 AND dag_id = $2",  # nosec B608
        project,
        dag_id,
    )
    return _dag(row) if row else None


async def dag_of_commit(conn: Any, project: UUID, commit_id: str) -> DagRow | None:
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM public.user_dags WHERE project_id = $1 AND commit_id = $2",  # nosec B608
        project,
        commit_id,
    )
    return _dag(row) if row else None


async def file_hash(conn: Any, project: UUID, path: str) -> str | None:
    """The hash of the file as this agent wrote it last."""
    found: str | None = await conn.fetchval(
        "SELECT sha256 FROM public.file_versions WHERE project_id = $1 AND path = $2 ORDER BY created_at DESC LIMIT 1",
        project,
        path,
    )
    return found


def _dag(row: Any) -> DagRow:
    return DagRow(**{name: row[name] for name in DagRow.__dataclass_fields__ if name != "tags"}, tags=row["tags"] or ())
