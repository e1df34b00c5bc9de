"""The moves that tests of the embedded server are made of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from heddle_cli.postgres import EmbeddedPostgres, Running

ROOT = Path(__file__).parents[3]

HOLDER = """
import sys, json
from pathlib import Path
from heddle_cli.postgres import EmbeddedPostgres
running = EmbeddedPostgres.start(Path(sys.argv[1]), fast_unsafe=True)
print(json.dumps({"dsn": running.dsn(), "owned": running.owned}), flush=True)
sys.stdin.read()
running.stop()
"""


def ask(dsn: str, question: str = "select 1") -> object:
    async def go() -> object:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    return asyncio.run(go())


def until(what: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def answers(dsn: str) -> bool:
    with contextlib.suppress(OSError, asyncpg.PostgresError, ConnectionError):
        return ask(dsn) == 1
    return False


def state(data: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((data.with_name(data.name + ".run") / "state.json").read_text())
    return found


def servers(data: Path) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(data)]


def start(data: Path, **options: object) -> Running:
    return EmbeddedPostgres.start(data, fast_unsafe=True, **options)  # type: ignore[arg-type]


def copy(made: Path, to: Path) -> Path:
    shutil.copytree(made, to)
    owner = made.stat()
    for path in (to, *to.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    return to


@contextlib.contextmanager
def holder(data: Path, env: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Another process that uses the server until it is told to leave."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait(30)
        process.stdout.close()
