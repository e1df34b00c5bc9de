"""The pool of a graph: one per loop, small, and closed with its loop."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import pytest

from heddle_kit.database import DatabaseFault, DatabaseMissing
from heddle_kit.database.postgres import MAX_CONNECTIONS, connection
from heddle_server.dsn import Dsn


def _open(url: str) -> int:
    with psycopg.connect(url) as conn:
        query = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE application_name = 'heddle-graph' AND datname = current_database()"
        )
        row = conn.execute(query).fetchone()
    return int(row[0]) if row else 0


async def test_many_users_share_few_connections(empty_database: Dsn) -> None:
    async def ask() -> int:
        async with connection(empty_database.libpq_url()) as conn:
            return int(await conn.fetchval("SELECT 1 FROM pg_sleep(0.01)"))

    assert await asyncio.gather(*(ask() for _ in range(30))) == [1] * 30
    assert await asyncio.to_thread(_open, empty_database.libpq_url()) <= MAX_CONNECTIONS


def test_a_pool_ends_with_its_loop(empty_database: Dsn) -> None:
    async def ask() -> None:
        async with connection(empty_database.libpq_url()) as conn:
            await conn.fetchval("SELECT 1")

    asyncio.run(ask())
    thread = threading.Thread(target=lambda: asyncio.run(ask()))
    thread.start()
    thread.join()
    for _ in range(200):
        if _open(empty_database.libpq_url()) == 0:
            break
        threading.Event().wait(0.02)
    assert _open(empty_database.libpq_url()) == 0


async def test_a_database_that_is_away_is_one_clear_fault() -> None:
    with pytest.raises(DatabaseFault):
        async with connection("postgresql://postgres@/x?host=/nowhere&port=1"):
            pass


async def test_without_an_address_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(DatabaseMissing, match="heddle dev"):
        async with connection():
            pass
