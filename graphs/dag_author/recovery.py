"""Make a project's repository and its rows agree again, after a process died between the two.

The branch moves before the database commits. So, when a project is opened:

- the tip is ahead of the last recorded commit: the process died in between. Record what the commits say.
- the last recorded commit is ahead of the tip: the database did commit although its client saw a lost
  connection and took the branch back. Move the branch forward again; the objects are still there.

Call it under the project's lock. Commits made by other tools on the branch are recorded the same way.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from graphs.dag_author import roundtrip, rows
from graphs.dag_author.identity import LOCAL_USER
from heddle_kit.git import CommitRecord, ProjectRepository, check_path

HISTORY_LIMIT = 100_000


async def agree(conn: Any, repo: ProjectRepository, project: UUID) -> str:
    """The tip of the branch, with every commit up to it recorded."""
    tip = await repo.tip()
    newest = await rows.newest_commit(conn, project)
    if newest == tip:
        return tip
    if newest is not None and await repo.contains(tip, within=newest):
        await repo.move(expected=tip, target=newest)
        return newest
    after = newest if newest is not None and await repo.contains(newest, within=tip) else None
    for commit in reversed(await repo.history(after=after, limit=HISTORY_LIMIT)):
        if not await rows.commit_recorded(conn, project, commit.commit_id):
            await _record(conn, repo, project, commit)
    return tip


async def _record(conn: Any, repo: ProjectRepository, project: UUID, commit: CommitRecord) -> None:
    request_id = commit.trailers.get("Run-Id")
    if request_id and await rows.commit_of_request(conn, project, request_id):
        request_id = None  # a trailer copied by hand must not take the place of the real one
    await rows.add_commit(
        conn,
        project,
        rows.CommitRow(
            commit_id=commit.commit_id,
            author=commit.author.name,
            message=commit.subject.replace("\x00", ""),
            changed_paths=commit.changed_paths,
            request_id=request_id,
        ),
    )
    dag_id = commit.trailers.get("Dag-Id")
    path = f"dags/{dag_id}.py"
    if dag_id is None or path not in commit.changed_paths:
        return
    content = await repo.read(check_path(path), commit.commit_id)
    if content is None:
        return
    user = _user(commit.trailers.get("User-Id"))
    await rows.add_dag(conn, project, user, _described(dag_id, content, commit.commit_id))
    await rows.add_file_version(conn, project, user, path=path, commit_id=commit.commit_id, content=content)


def _described(dag_id: str, content: bytes, commit_id: str) -> rows.DagRow:
    """The row of a file, from what the file itself says."""
    arguments: dict[str, Any] = {}
    tasks = 0
    try:
        found = roundtrip.read(content.decode())
        arguments, tasks = dict(found.arguments), len(found.tasks)
    except (roundtrip.NotADag, SyntaxError, ValueError, RecursionError):
        pass  # a commit of another tool: the row then says no more than the path
    default_args = arguments.get("default_args")
    return rows.DagRow(
        dag_id=dag_id,
        dag_name=str(arguments.get("dag_display_name") or dag_id),
        description=arguments.get("description"),
        file_path=f"dags/{dag_id}.py",
        schedule_interval=roundtrip.stored_schedule(arguments.get("schedule")),
        owner=default_args.get("owner") if isinstance(default_args, dict) else None,
        tags=[str(tag) for tag in arguments.get("tags") or ()],
        task_count=tasks,
        commit_id=commit_id,
    )


def _user(text: str | None) -> UUID:
    try:
        return UUID(text or "")
    except ValueError:
        return LOCAL_USER
