"""Connections: how many there are, what they have ready, and what is said when there is no database."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from heddle_core.domain.errors import Unavailable
from heddle_server.dsn import Dsn
from heddle_server.storage.database import Sizes, open_database
from heddle_server.storage.failures import is_transient, unreachable
from heddle_server.storage.run_queue import PostgresRunQueue
from heddle_server.storage.sessions import check_schema, transaction
from tests.support.queue_world import LEASE, QueueWorld, new_run


@pytest.mark.parametrize(("budget", "hot", "cold"), [(10, 4, 6), (150, 4, 146), (4, 2, 2), (2, 1, 1), (1, 1, 1)])
def test_a_budget_of_connections_is_divided(budget: int, hot: int, cold: int) -> None:
    assert Sizes.of(budget) == Sizes(hot=hot, cold=cold)


async def test_both_sides_stay_within_the_budget(queued: QueueWorld) -> None:
    async def use() -> None:
        async with transaction(queued.database.engine) as connection:
            await connection.exec_driver_sql("SELECT pg_sleep(0.05)")

    await asyncio.gather(
        *(use() for _ in range(12)), *(queued.database.pool.fetch("SELECT pg_sleep(0.05)") for _ in range(12))
    )
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'heddle'"
    assert await queued.one(count) == 10


async def test_hot_connections_have_their_statements_prepared_before_they_serve(queued: QueueWorld) -> None:
    names = await queued.sql("SELECT statement FROM pg_prepared_statements")
    text = " ".join(row["statement"] for row in names)
    assert all(name in text for name in ("open_run(", "close_runs(", "flush_rows(", "lease_until"))


async def test_a_claim_works_without_prepared_statements(queued: QueueWorld) -> None:
    async with open_database(queued.address, statement_cache=False, budget=3) as opened:
        queue = PostgresRunQueue(opened.pool)
        await queue.open(new_run(), lease=LEASE)
        async with transaction(opened.engine) as connection:
            assert (await connection.exec_driver_sql("SELECT count(*) FROM heddle.run")).scalar_one() == 1
        assert await opened.pool.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0
        await queue.aclose()


async def test_a_database_that_is_not_there_is_named_with_a_fix(empty_database: Dsn, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"/nowhere.*create the database") as missing:
        async with open_database(empty_database.with_database("nowhere")):
            pass
    assert "DATABASE_URL" in missing.value.message
    with pytest.raises(Unavailable, match="start PostgreSQL"):
        async with open_database(replace(empty_database, host=str(tmp_path))):
            pass


def test_no_password_is_shown() -> None:
    error = asyncpg.InvalidPasswordError("password authentication failed: s3cret")
    shown = unreachable(error, {"host": "db", "user": "me", "password": "s3cret", "database": "x"})
    assert "s3cret" not in shown.message
    assert "db:5432/x" in shown.message


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (asyncpg.ConnectionDoesNotExistError("gone"), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.AdminShutdownError("bye"), True),
        (asyncpg.QueryCanceledError("statement timeout"), True),
        (asyncpg.DiskFullError("full"), True),
        (asyncpg.DeadlockDetectedError("deadlock"), True),
        (asyncpg.UntranslatableCharacterError("nul"), False),
        (asyncpg.UniqueViolationError("twice"), False),
        (ValueError("a bad argument"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_passes_by_itself_is_told_from_what_stays(error: Exception, passes: bool) -> None:
    assert is_transient(error) is passes


async def test_the_check_names_a_schema_that_is_behind(queued: QueueWorld) -> None:
    await check_schema(queued.database.engine, frozenset({"heddle_0002"}))
    with pytest.raises(Unavailable, match=r"needs heddle_0003: run `heddle migrate up`"):
        await check_schema(queued.database.engine, frozenset({"heddle_0003"}))
    await queued.sql("DROP TABLE heddle.alembic_version")
    with pytest.raises(Unavailable, match="at no revision"):
        await check_schema(queued.database.engine, frozenset({"heddle_0002"}))
