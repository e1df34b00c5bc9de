"""Databases for tests: one server for the whole test run, a fresh database for each test that asks.

A pytest plugin (`pytest_plugins = ["tests.support.postgres_server"]` in the outermost conftest). The server is
our own embedded one with fsync off, on a memory disk where there is room. The first test that needs it starts
it, under pytest-xdist in whichever worker that is; the others share it, and it ends with the last of them.

Fixtures: `postgres` (the server), `empty_database` and `database` (a `Dsn`; the second one is migrated). A folder of
tests that wants other contents makes a template of its own with `template` and copies it with `fresh_database`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from heddle_cli.postgres import EmbeddedPostgres, Running
from heddle_cli.postgres.binaries import Binaries
from heddle_server.dsn import Dsn
from heddle_server.storage import migrate

T = TypeVar("T")
_FOLDER = "HEDDLE_TEST_POSTGRES"  # set by the process that runs pytest, inherited by its xdist workers
_PREFIX = "heddle-tests-"
_IN_USE = "in-use"
_ROOM = 2 * 1024**3
_MIGRATED = "template_migrated"
_NOTHING = "template0"
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or _FOLDER in os.environ:
        return
    memory = Path("/dev/shm")
    fits = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM
    base = memory if fits else Path(tempfile.gettempdir())
    _clear_up_after_killed_runs(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    mark = _locked(folder)
    os.environ[_FOLDER] = str(folder)
    config.add_cleanup(lambda: _remove(folder, mark))


def _locked(folder: Path) -> int:
    """Mark the folder as used for as long as this process lives. The name comes after the lock: no mark is unlocked."""
    mark = os.open(folder / "new", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(mark, fcntl.LOCK_EX)
    (folder / "new").rename(folder / _IN_USE)
    return mark


def _remove(folder: Path, mark: int) -> None:
    del os.environ[_FOLDER]
    shutil.rmtree(folder)
    os.close(mark)


def _clear_up_after_killed_runs(base: Path) -> None:
    for mark in base.glob(f"{_PREFIX}*/{_IN_USE}"):
        with contextlib.suppress(OSError), mark.open() as file:  # in use, another user's, or gone meanwhile
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mark.parent)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Running]:
    """The server of this test run."""
    with shared_server("pg") as running:
        yield running


@pytest.fixture(scope="session")
def migrated_template(postgres: Running) -> str:
    """The name of a database with the server's own migrations, to copy from. Never connect to it."""
    return template(postgres, _MIGRATED, migrate.upgrade)


@pytest.fixture
def empty_database(postgres: Running) -> Iterator[Dsn]:
    """A new database with nothing in it, dropped afterwards whoever is still connected."""
    with fresh_database(postgres) as made:
        yield made


@pytest.fixture
def database(postgres: Running, migrated_template: str) -> Iterator[Dsn]:
    """A new database at the newest migration, dropped afterwards whoever is still connected."""
    with fresh_database(postgres, migrated_template) as made:
        yield made


def shared_server(name: str, binaries: Binaries | None = None) -> Running:
    """A use of the server of this name, which all workers of this test run share. Leave it with `stop`."""
    return EmbeddedPostgres.start(Path(os.environ[_FOLDER]) / name, fast_unsafe=True, binaries=binaries)


def template(server: Running, name: str, fill: Callable[[Dsn], Coroutine[Any, Any, None]]) -> str:
    """Make a database to copy from, once per test run: `fill` gets it empty and must leave no connection open."""
    with open(server.data.with_name(f"{server.data.name}.{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _blocking(_exists(server, name)):
            unfinished = f"{name}_unfinished"
            _administer(server, f'DROP DATABASE IF EXISTS "{unfinished}" WITH (FORCE)')
            _administer(server, f'CREATE DATABASE "{unfinished}" TEMPLATE {_NOTHING}')
            _blocking(fill(server.address(unfinished)))
            _administer(server, f'ALTER DATABASE "{unfinished}" RENAME TO "{name}"')
    return name


@contextlib.contextmanager
def fresh_database(server: Running, like: str = _NOTHING) -> Iterator[Dsn]:
    """A new database like the template `like`, dropped afterwards whoever is still connected."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _administer(server, f'CREATE DATABASE "{name}" TEMPLATE "{like}" STRATEGY = FILE_COPY')
    try:
        yield server.address(name)
    finally:
        _administer(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def execute(database: Dsn, statement: str) -> None:
    """Run statements on a connection of their own."""
    connection = await asyncpg.connect(**database.asyncpg_kwargs())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _administer(server: Running, statement: str) -> None:
    _blocking(execute(server.address("postgres"), statement))


async def _exists(server: Running, name: str) -> bool:
    connection = await asyncpg.connect(**server.address("postgres").asyncpg_kwargs())
    try:
        return bool(await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name))
    finally:
        await connection.close()


def _blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run it on a loop in a thread of its own: the test's loop may exist already, and is none of our business."""
    done: list[T] = []
    failed: list[BaseException] = []

    def go() -> None:
        try:
            done.append(asyncio.run(work))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
