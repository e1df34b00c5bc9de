"""The databases that tests get: fresh, separate, quick, and gone afterwards."""

from __future__ import annotations

import asyncpg

from heddle_cli.postgres import Running
from heddle_server.dsn import Dsn
from tests.support.postgres_server import fresh_database, template


async def run(database: Dsn, statement: str) -> object:
    connection = await asyncpg.connect(**database.asyncpg_kwargs())
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def names(server: Running) -> object:
    return await run(server.address("postgres"), "SELECT array_agg(datname::text) FROM pg_database")


async def test_a_test_gets_an_empty_database(empty_database: Dsn) -> None:
    assert await run(empty_database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await run(empty_database, "CREATE TABLE litter (x int)")


async def test_what_one_test_left_the_next_does_not_see(empty_database: Dsn) -> None:
    assert await run(empty_database, "SELECT to_regclass('litter') IS NULL")


async def test_a_copy_has_what_its_template_has_and_goes_even_while_in_use(postgres: Running) -> None:
    filled: list[str] = []

    async def fill(database: Dsn) -> None:
        filled.append(str(database.database))
        await run(database, "CREATE TABLE furniture AS SELECT 42 AS answer")

    template(postgres, "template_furnished", fill)
    template(postgres, "template_furnished", fill)
    assert len(filled) <= 1  # another worker may have made it
    with fresh_database(postgres, "template_furnished") as copy:
        connection = await asyncpg.connect(**copy.asyncpg_kwargs())
        assert await connection.fetchval("SELECT answer FROM furniture") == 42
    connection.terminate()
    assert str(copy.database) not in str(await names(postgres))


async def test_the_server_of_the_tests_does_not_wait_for_the_disk(postgres: Running) -> None:
    assert await run(postgres.address(), "SHOW fsync") == "off"
