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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from heddle_cli.postgres import EmbeddedPostgres, Running
from heddle_server.dsn import Dsn

_FOLDER = "HEDDLE_TEST_POSTGRES"  # set by the process that runs pytest, inherited by its xdist workers
_ROOM = 2 * 1024**3
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


class DatabaseServer:
    """The server of this test run."""

    def __init__(self, running: Running) -> None:
        self.running = running

    def address(self, name: str) -> Dsn:
        return self.running.address(name)

    def create(self, like: str = "template0") -> Dsn:
        """A new database like the template `like`."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        _run(self._admin(f'CREATE DATABASE "{name}" TEMPLATE "{like}" STRATEGY = FILE_COPY'))
        return self.address(name)

    def drop(self, database: Dsn) -> None:
        """Remove it, whoever is still connected."""
        _run(self._admin(f'DROP DATABASE IF EXISTS "{database.database}" WITH (FORCE)'))

    @contextmanager
    def database(self, *, migrated: bool = True) -> Iterator[str]:
        """The URL of a new database for as long as the block lasts."""
        made = self.create(self.migrated_template() if migrated else "template0")
        try:
            yield made.libpq_url()
        finally:
            self.drop(made)

    def migrated_template(self) -> str:
        """The name of a database with the server's own migrations, to copy from."""
        from heddle_server.storage import migrate

        return self.template("template_migrated", migrate.upgrade)

    def template(self, name: str, fill: Callable[[Dsn], Coroutine[Any, Any, None]]) -> str:
        """Make a database to copy from, once per test run: `fill` gets it empty and must leave no connection open."""
        with open(self.running.data.with_name(f"{name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._exists(name):
                unfinished = f"{name}_unfinished"
                _run(self._admin(f'DROP DATABASE IF EXISTS "{unfinished}" WITH (FORCE)'))
                _run(self._admin(f'CREATE DATABASE "{unfinished}" TEMPLATE template0'))
                _run(fill(self.address(unfinished)))
                _run(self._admin(f'ALTER DATABASE "{unfinished}" RENAME TO "{name}"'))
        return name

    def _exists(self, name: str) -> bool:
        found: list[object] = []

        async def look() -> None:
            connection = await asyncpg.connect(**self.address("postgres").asyncpg_kwargs())
            try:
                found.append(await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name))
            finally:
                await connection.close()

        _run(look())
        return found == [1]

    async def _admin(self, statement: str) -> None:
        connection = await asyncpg.connect(**self.address("postgres").asyncpg_kwargs())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[DatabaseServer]:
    """The server of this test run."""
    with EmbeddedPostgres.start(Path(os.environ[_FOLDER]) / "pg", fast_unsafe=True) as running:
        yield DatabaseServer(running)


@pytest.fixture
def empty_database(postgres: DatabaseServer) -> Iterator[Dsn]:
    """A new database with nothing in it."""
    made = postgres.create()
    yield made
    postgres.drop(made)


@pytest.fixture
def database(postgres: DatabaseServer) -> Iterator[Dsn]:
    """A new database at the newest migration."""
    made = postgres.create(postgres.migrated_template())
    yield made
    postgres.drop(made)


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
