"""Behind a real transaction pooler: every statement may meet another database session."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client

from heddle_server.dsn import Dsn
from tests.support.require import require
from tests.support.server import free_port, serving

POOLER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.fixture
def pooled(database: Dsn) -> Iterator[str]:
    """The address of a PgBouncer in transaction mode in front of a fresh database."""
    require("pgbouncer", POOLER is not None, "apt-get install pgbouncer")
    assert POOLER is not None
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="heddle-pooler-"))
    folder.chmod(0o755)
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\nheddle = host={database.host} port={database.port} user=postgres dbname={database.database}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 5\nserver_reset_query =\n"
        "ignore_startup_parameters = extra_float_digits,plan_cache_mode,jit,search_path\n"
    )
    # It does not run as root, and the database's socket folder belongs to the account the database runs as, below a
    # folder of this test run that nobody else may enter.
    Path(str(database.host)).parent.chmod(0o711)
    owner = pwd.getpwuid(Path(str(database.host)).stat().st_uid).pw_name
    as_user: dict[str, Any] = (
        {"user": owner, "group": pwd.getpwnam(owner).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([POOLER, settings], stdout=log, stderr=log, cwd="/", **as_user)
    try:
        deadline = time.monotonic() + 10
        while b"process up" not in (folder / "log").read_bytes():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"postgresql://postgres@127.0.0.1:{port}/heddle"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        shutil.rmtree(folder)


async def test_runs_work_behind_a_transaction_pooler(pooled: str, tmp_path: Path) -> None:
    settings = {"DATABASE_STATEMENT_CACHE": "false", "HEDDLE_POLL_SECONDS": "0.2"}
    with serving(pooled, tmp_path, environment=settings) as server:
        client = get_client(url=server.url, api_key=None)
        thread = (await client.threads.create())["thread_id"]
        turns = [client.runs.create(thread, "steps", input={"left": 3}) for _ in range(5)]
        runs = await asyncio.gather(*turns)
        await asyncio.gather(*(client.runs.join(thread, run["run_id"]) for run in runs))
        values: Any = (await client.threads.get(thread))["values"]
        assert values["done"] == [3, 2, 1] * 5
        alone = await asyncio.gather(*(client.runs.wait(None, "line", input={}) for _ in range(20)))
        assert alone == [{"log": ["one", "two"]}] * 20
        assert "Traceback" not in server.output()
