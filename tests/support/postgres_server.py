"""Databases for tests: one server for the whole test run, a fresh database for each test that asks.

A pytest plugin (`pytest_plugins = ["tests.support.postgres_server"]` in the outermost conftest). The server is
our own embedded one with fsync off, on a memory disk where there is room. The first test that needs it starts
it, under pytest-xdist in whichever worker that is; the others share it, and it ends with the last of them.

Fixtures: `postgres` (the server), `empty_database` and `database` (a `Dsn`; the second one is migrated).
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from heddle_cli.postgres import EmbeddedPostgres, Running
from heddle_server.dsn import Dsn

_FOLDER = "HEDDLE_TEST_POSTGRES"  # set by the process that runs pytest, inherited by its xdist workers
_ROOM = 2 * 1024**3
_MIGRATED = "template_migrated"
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    if _is_worker(config) or _FOLDER in os.environ:
        return
    memory = Path("/dev/shm")
    fits = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM
    folder = tempfile.mkdtemp(prefix="heddle-tests-", dir=memory if fits else None)
    os.environ[_FOLDER] = folder
    config.add_cleanup(lambda: _remove(folder))


def _remove(folder: str) -> None:
    del os.environ[_FOLDER]
    shutil.rmtree(folder)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Running]:
    """The server of this test run."""
    with EmbeddedPostgres.start(Path(os.environ[_FOLDER]) / "pg", fast_unsafe=True) as running:
        yield running


@pytest.fixture
def empty_database(postgres: Running) -> Iterator[Dsn]:
    """A new database with nothing in it, dropped afterwards whoever is still connected."""
    with_name = postgres.address(_create(postgres, "template0"))
    yield with_name
    _drop(postgres, with_name)


@pytest.fixture
def database(postgres: Running, migrated_template: str) -> Iterator[Dsn]:
    """A new database at the newest migration, dropped afterwards whoever is still connected."""
    with_name = postgres.address(_create(postgres, migrated_template))
    yield with_name
    _drop(postgres, with_name)


@pytest.fixture(scope="session")
def migrated_template(postgres: Running) -> str:
    """The name of a database with the server's own migrations, to copy from. Never connect to it."""
    from heddle_server.storage import migrate

    return template(postgres, _MIGRATED, migrate.upgrade)


def template(server: Running, name: str, fill: Callable[[Dsn], Coroutine[Any, Any, None]]) -> str:
    """Make a database to copy from, once per test run: `fill` gets it empty and must leave no connection open."""
    with open(server.data.with_name(f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _exists(server, name):
            unfinished = f"{name}_unfinished"
            _run(_admin(server, f'DROP DATABASE IF EXISTS "{unfinished}" WITH (FORCE)'))
            _run(_admin(server, f'CREATE DATABASE "{unfinished}" TEMPLATE template0'))
            _run(fill(server.address(unfinished)))
            _run(_admin(server, f'ALTER DATABASE "{unfinished}" RENAME TO "{name}"'))
    return name


def copy_of(server: Running, name: str) -> Dsn:
    """A new database like the template `name`. Drop it with `drop`, or leave it to the end of the run."""
    return server.address(_create(server, name))


def drop(server: Running, database: Dsn) -> None:
    _drop(server, database)


def _create(server: Running, like: str) -> str:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _run(_admin(server, f'CREATE DATABASE "{name}" TEMPLATE "{like}" STRATEGY = FILE_COPY'))
    return name


def _drop(server: Running, database: Dsn) -> None:
    _run(_admin(server, f'DROP DATABASE IF EXISTS "{database.database}" WITH (FORCE)'))


def _exists(server: Running, name: str) -> bool:
    found: list[object] = []

    async def look() -> None:
        connection = await asyncpg.connect(**server.address("postgres").asyncpg_kwargs())
        try:
            found.append(await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name))
        finally:
            await connection.close()

    _run(look())
    return found == [1]


async def _admin(server: Running, statement: str) -> None:
    connection = await asyncpg.connect(**server.address("postgres").asyncpg_kwargs())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run it on a loop in a thread of its own: the test's loop may exist already, and is none of our business."""
    failure: list[BaseException] = []

    def go() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
