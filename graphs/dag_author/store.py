"""Creating a DAG, all or nothing, and reading what was created.

One order, always: take the project's lock in a transaction, make rows and repository agree, choose the id,
store the commit's objects, write the rows uncommitted, move the branch by compare-and-swap, commit. A fault
before the branch moved leaves nothing. A fault after it moves the branch back; should that fail too, or the
process die, the next opening of the project settles it (see recovery.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from graphs.dag_author import recovery, rows
from graphs.dag_author.identity import Asker
from graphs.dag_author.naming import numbered
from graphs.dag_author.plan import Plan
from graphs.dag_author.problems import Code, Refused
from heddle_kit.database import DatabaseFault
from heddle_kit.database.postgres import connection
from heddle_kit.git import Conflict, GitFault, NewCommit, Prepared, ProjectRepository, Projects

SWAP_ATTEMPTS = 10
LIST_LIMIT = 1000
_DATABASE_FIX = "check that the database runs (heddle doctor), then try again"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    dag_id: str
    file_path: str
    commit_id: str
    created_at: datetime
    again: bool = False  # the same request had made it already


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    row: rows.DagRow
    source: str | None  # None when the file is gone
    edited: bool  # whether somebody changed the file since this agent wrote it


class Store:
    """The DAGs of all projects: files in git, rows in the database."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects

    async def create(self, asker: Asker, plan: Plan, render: Callable[[Plan], str]) -> Created:
        """Commit the plan's file and its rows; Refused with `commit_failed` when nothing could be written."""
        with _faults():
            repo = await self._projects.open(asker.project_id)
            async with connection() as conn:
                for _ in range(SWAP_ATTEMPTS):
                    try:
                        return await self._create(conn, repo, asker, plan, render)
                    except Conflict:
                        continue  # another tool moved the branch: build on what it made
                raise Conflict(f"the branch moved {SWAP_ATTEMPTS} times while this DAG waited for its turn")

    async def list(self, project: UUID) -> list[rows.DagRow]:
        with _faults():
            async with self._settled(project) as (conn, _):
                return await rows.list_dags(conn, project, LIST_LIMIT)

    async def show(self, project: UUID, dag_id: str) -> Shown | None:
        with _faults():
            async with self._settled(project) as (conn, repo):
                row = await rows.find_dag(conn, project, dag_id)
                if row is None:
                    return None
                content = await repo.read(row.file_path)
                written = await rows.file_hash(conn, project, row.file_path)
        if content is None:
            return Shown(row=row, source=None, edited=True)
        return Shown(row=row, source=content.decode("utf-8", "replace"), edited=_sha256(content) != written)

    @contextlib.asynccontextmanager
    async def _settled(self, project: UUID) -> AsyncIterator[tuple[Any, ProjectRepository]]:
        """A connection to a project whose rows and repository agree. Reading takes no lock when they do."""
        repo = await self._projects.open(project)
        async with connection() as conn:
            if await rows.newest_commit(conn, project) != await repo.tip():
                async with conn.transaction():
                    await rows.lock_project(conn, project)
                    await recovery.agree(conn, repo, project)
            yield conn, repo

    async def _create(
        self, conn: Any, repo: ProjectRepository, asker: Asker, plan: Plan, render: Callable[[Plan], str]
    ) -> Created:
        transaction = conn.transaction()
        await transaction.start()
        try:
            await rows.lock_project(conn, asker.project_id)
            tip = await recovery.agree(conn, repo, asker.project_id)
            done = await _done_before(conn, asker)
            if done is None:
                plan = plan.with_id(await _choose_id(conn, repo, asker.project_id, plan, tip))
                content = await asyncio.to_thread(lambda: render(plan).encode())
                change = _change(asker, plan, content)
                created_at, prepared = await _write(conn, repo, asker, plan, change, content, tip)
        except BaseException:
            await _quietly(transaction.rollback())
            raise
        if done is not None:
            await _to_the_end(transaction.commit())
            return done
        # From here a cancel may no longer come in between: both sides move, or neither.
        await _to_the_end(_publish(repo, asker, transaction, prepared))
        return Created(dag_id=plan.dag_id, file_path=plan.path, commit_id=prepared.commit_id, created_at=created_at)


async def _publish(repo: ProjectRepository, asker: Asker, transaction: Any, prepared: Prepared) -> None:
    try:
        await repo.move(expected=prepared.parent_id, target=prepared.commit_id)
    except BaseException:
        await _quietly(transaction.rollback())
        raise
    try:
        await transaction.commit()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        if await _committed_after_all(asker, prepared.commit_id):
            return
        # Not committed, or not known: take the branch back. Rows that were committed bring it forward again.
        with contextlib.suppress(Conflict):  # somebody built on it: recovery records both
            await repo.move(expected=prepared.commit_id, target=prepared.parent_id)
        raise


async def _committed_after_all(asker: Asker, commit_id: str) -> bool:
    """Ask on a new connection. The lock waits for the server to be done with the transaction that was cut."""
    try:
        async with connection() as conn, conn.transaction():
            await rows.lock_project(conn, asker.project_id)
            return await rows.commit_recorded(conn, asker.project_id, commit_id)
    except (DatabaseFault, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        return False


async def _done_before(conn: Any, asker: Asker) -> Created | None:
    """What an earlier execution of the same request left."""
    if asker.request_id is None:
        return None
    commit_id = await rows.commit_of_request(conn, asker.project_id, asker.request_id)
    row = await rows.dag_of_commit(conn, asker.project_id, commit_id) if commit_id else None
    if row is None or row.created_at is None:
        return None
    return Created(
        dag_id=row.dag_id,
        file_path=row.file_path,
        commit_id=row.commit_id,
        created_at=row.created_at,
        again=True,
    )


async def _choose_id(conn: Any, repo: ProjectRepository, project: UUID, plan: Plan, tip: str) -> str:
    taken = set(await rows.dag_ids(conn, project))
    taken |= {PurePosixPath(path).stem for path in await repo.list_files("dags", tip)}
    if plan.wants_this_id and plan.dag_id in taken:
        raise Refused.because(
            Code.NAME_CONFLICT,
            "dag_id",
            "is taken in this project",
            got=plan.dag_id,
            allowed=f"{numbered(plan.dag_id, taken)}, or leave dag_id out",
        )
    return numbered(plan.dag_id, taken)


def _change(asker: Asker, plan: Plan, content: bytes) -> NewCommit:
    trailers = {"Dag-Id": plan.dag_id, "User-Id": str(asker.user_id)}
    if asker.request_id:
        trailers["Run-Id"] = asker.request_id
    if asker.thread_id:
        trailers["Thread-Id"] = asker.thread_id
    return NewCommit(
        files={plan.path: content}, subject=f"Add DAG {plan.dag_id}", author=asker.author, trailers=trailers
    )


async def _write(
    conn: Any,
    repo: ProjectRepository,
    asker: Asker,
    plan: Plan,
    change: NewCommit,
    content: bytes,
    tip: str,
) -> tuple[datetime, Prepared]:
    """Store the objects and write the rows, neither visible to anyone yet."""
    prepared = await repo.prepare(change, parent=tip)
    row = rows.DagRow(
        dag_id=plan.dag_id,
        dag_name=plan.name,
        description=plan.description or None,
        file_path=plan.path,
        schedule_interval=plan.schedule.stored,
        owner=plan.owner,
        tags=plan.tags,
        task_count=len(plan.tasks),
        commit_id=prepared.commit_id,
    )
    created_at = await rows.add_dag(conn, asker.project_id, asker.user_id, row)
    commit = rows.CommitRow(
        commit_id=prepared.commit_id,
        author=change.author.name,
        message=change.subject,
        changed_paths=list(change.files),
        request_id=asker.request_id,
    )
    await rows.add_commit(conn, asker.project_id, commit)
    await rows.add_file_version(
        conn, asker.project_id, asker.user_id, path=plan.path, commit_id=prepared.commit_id, content=content
    )
    return created_at, prepared


async def _to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end even when the caller is cancelled meanwhile; the cancel is then raised afterwards."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        raise


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    """Roll back. When even that fails the connection is dead, and with it the transaction."""
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        await _to_the_end(work)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Faults of disk, git and database become one answer that says what to do."""
    try:
        yield
    except GitFault as fault:
        raise _failed("git", str(fault), "nothing was written: put it right and try again") from fault
    except DatabaseFault as fault:
        raise _failed("database", str(fault), _DATABASE_FIX) from fault
    except asyncpg.UndefinedTableError as fault:
        raise _failed("database", "a table of this agent is missing", "run heddle migrate up") from fault
    except (asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as fault:
        what = f"the database refused or dropped the work ({type(fault).__name__})"
        raise _failed("database", what, _DATABASE_FIX) from fault
    except OSError as fault:
        what = fault.strerror or type(fault).__name__
        fix = "check that the data folder (HEDDLE_DATA_DIR) is writable and has room"
        raise _failed("disk", what, fix) from fault


def _failed(path: str, rule: str, fix: str) -> Refused:
    return Refused.because(Code.COMMIT_FAILED, path, rule, allowed=fix)
