"""A create that fails, or whose process dies, leaves all as it was or is finished at the next opening."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.graphs.dag_author.conftest import PROJECT, World, answer

CREATE = "/agent create run scripts/sync.sh"
ROOT = Path(__file__).resolve().parents[3]

# Fires inside COMMIT, after the branch has moved.
DEFERRED = """
CREATE FUNCTION public.at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON public.user_dags DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION public.at_commit();
"""
WAIT_AT_COMMIT = DEFERRED.format(body="PERFORM pg_advisory_xact_lock(42)")


@pytest.fixture
async def before(world: World) -> tuple[str, int, int, int]:
    """One DAG is there already; the state of everything after it."""
    assert (await world.say(CREATE))["commit_id"]
    return world.snapshot()


async def _refused(world: World) -> dict[str, Any]:
    values = await world.say(CREATE)
    assert [problem["code"] for problem in values["problems"]] == ["commit_failed"]
    assert "Fix:" in answer(values)
    assert values["commit_id"] is None
    return values


async def test_a_stale_lock_file_is_reported_by_name(world: World, before: tuple[Any, ...]) -> None:
    lock = world.repository() / "refs" / "heads" / "main.lock"
    lock.touch()
    values = await _refused(world)

    assert "main.lock" in answer(values)
    assert "delete that file" in answer(values)
    assert world.snapshot() == before
    lock.unlink()
    assert (await world.say(CREATE))["commit_id"]


async def test_a_repository_that_cannot_be_written_changes_nothing(world: World, before: tuple[Any, ...]) -> None:
    objects = world.repository() / "objects"
    objects.rename(objects.with_name("kept"))
    objects.touch()
    await _refused(world)
    objects.unlink()
    objects.with_name("kept").rename(objects)
    assert world.snapshot() == before


async def test_a_data_folder_that_is_a_file_is_answered(world: World) -> None:
    world.data.touch()
    await _refused(world)
    assert world.rows("user_dags") == []


async def test_a_missing_table_changes_nothing_and_names_the_fix(world: World, before: tuple[Any, ...]) -> None:
    world.execute("ALTER TABLE public.file_versions RENAME TO gone")
    assert "heddle migrate up" in answer(await _refused(world))
    world.execute("ALTER TABLE public.gone RENAME TO file_versions")
    assert world.snapshot() == before


async def test_a_database_that_is_not_there_changes_nothing(
    world: World, before: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres@/x?host=/nowhere&port=5432")
    await _refused(world)
    assert world.snapshot() == before


async def test_a_refused_commit_takes_the_branch_back(world: World, before: tuple[Any, ...]) -> None:
    world.execute(DEFERRED.format(body="RAISE EXCEPTION 'not today'"))
    await _refused(world)
    assert world.snapshot() == before


async def test_a_connection_killed_before_the_branch_moves_changes_nothing(
    world: World, before: tuple[Any, ...]
) -> None:
    with _holding(world, "LOCK TABLE public.user_dags IN EXCLUSIVE MODE"):
        task = asyncio.create_task(world.say(CREATE))
        await _kill_backend(world)
        values = await task
    assert values["problems"][0]["code"] == "commit_failed"
    assert world.snapshot() == before


async def test_a_connection_killed_inside_commit_takes_the_branch_back(world: World, before: tuple[Any, ...]) -> None:
    world.execute(WAIT_AT_COMMIT)
    with _holding(world, "SELECT pg_advisory_lock(42)"):
        task = asyncio.create_task(world.say(CREATE))
        await _until(lambda: _waiting(world) and world.git("rev-parse", "main") != before[0])
        await _kill_backend(world)
        values = await task
    assert values["problems"][0]["code"] == "commit_failed"
    assert world.snapshot() == before


async def test_a_cancel_while_waiting_for_the_project_changes_nothing(world: World, before: tuple[Any, ...]) -> None:
    lock = f"SELECT pg_advisory_lock(hashtextextended('{PROJECT}', 0))"
    with _holding(world, lock):
        task = asyncio.create_task(world.say(CREATE))
        await _until(lambda: _waiting(world))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert world.snapshot() == before


async def test_a_cancel_inside_commit_finishes_both_sides(world: World, before: tuple[Any, ...]) -> None:
    world.execute(WAIT_AT_COMMIT)
    with _holding(world, "SELECT pg_advisory_lock(42)"):
        task = asyncio.create_task(world.say(CREATE))
        await _until(lambda: _waiting(world) and world.git("rev-parse", "main") != before[0])
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    head, dags, commits, versions = world.snapshot()
    assert (dags, commits, versions) == (before[1] + 1, before[2] + 1, before[3] + 1)
    assert world.rows("project_commits")[-1]["commit_id"] == head


async def test_a_process_killed_before_the_branch_moves_leaves_nothing(world: World, before: tuple[Any, ...]) -> None:
    with (
        _holding(world, "LOCK TABLE public.user_dags IN EXCLUSIVE MODE"),
        _process(str(uuid.uuid4())) as child,
    ):
        await _until(lambda: _waiting(world))
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    await _until(lambda: not _active(world))
    assert world.snapshot() == before
    assert (await world.say(CREATE))["commit_id"]


async def test_a_process_killed_between_branch_and_commit_is_rolled_forward(
    world: World, before: tuple[Any, ...]
) -> None:
    world.execute(WAIT_AT_COMMIT)
    request = str(uuid.uuid4())
    with _holding(world, "SELECT pg_advisory_lock(42)"), _process(request) as child:
        await _until(lambda: _waiting(world) and world.git("rev-parse", "main") != before[0])
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        await _kill_backend(world)
    tip = world.git("rev-parse", "main")
    assert len(world.rows("user_dags")) == before[1]

    listed = answer(await world.say("/agent list"))
    assert "sync_2" in listed
    assert world.rows("project_commits")[-1]["commit_id"] == tip
    row = world.rows("user_dags")[-1]
    assert (row["dag_id"], row["dag_name"], row["task_count"], row["commit_id"]) == ("sync_2", "Sync", 1, tip)

    again = await world.say(CREATE, thread="x", run_id=request)
    assert (again["dag_id"], again["commit_id"]) == ("sync_2", tip)
    assert world.git("rev-parse", "main") == tip


async def test_a_branch_taken_back_from_committed_rows_moves_forward_again(
    world: World, before: tuple[Any, ...]
) -> None:
    made = await world.say(CREATE)
    world.git("update-ref", "refs/heads/main", before[0])
    await world.say("/agent list")
    assert world.git("rev-parse", "main") == made["commit_id"]


@contextlib.contextmanager
def _holding(world: World, statement: str) -> Iterator[None]:
    """Hold a lock of the database until the block ends."""
    with psycopg.connect(world.url) as conn:
        conn.execute(statement)
        yield


@contextlib.contextmanager
def _process(request: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that runs the create."""
    code = (
        "import asyncio\n"
        "from graphs.dag_author.graph import graph\n"
        f"config = {{'configurable': {{'run_id': {request!r}}}}}\n"
        f"asyncio.run(graph.ainvoke({{'messages': [('user', {CREATE!r})]}}, config))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        yield child
    finally:
        child.kill()
        child.wait(10)


_BACKENDS = "FROM pg_stat_activity WHERE application_name = 'heddle-graph' AND datname = current_database()"


def _waiting(world: World) -> bool:
    return bool(_ask(world, f"SELECT count(*) {_BACKENDS} AND wait_event_type = 'Lock'"))


def _active(world: World) -> bool:
    return bool(_ask(world, f"SELECT count(*) {_BACKENDS} AND backend_xid IS NOT NULL"))


async def _kill_backend(world: World) -> None:
    await _until(lambda: _waiting(world))
    _ask(world, f"SELECT count(pg_terminate_backend(pid)) {_BACKENDS} AND wait_event_type = 'Lock'")
    await _until(lambda: not _waiting(world))


def _ask(world: World, query: str) -> Any:
    with psycopg.connect(world.url) as conn:
        row = conn.execute(query).fetchone()
    return row[0] if row else None


async def _until(seen: Callable[[], object], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not await asyncio.to_thread(seen):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
