"""The server under measurement: a real `heddle serve` on a fresh embedded database."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import psycopg

from heddle_cli.postgres.launcher import EmbeddedPostgres, Running

_HERE = Path(__file__).parent
_BRACKETS = ("BEGIN", "BEGIN;", "COMMIT", "COMMIT;", "ROLLBACK", "ROLLBACK;")
# What follows may be a comment: the queue's statements begin with one.
_EXECUTED = re.compile(r"^heddle[^|]*\|LOG:  (?:execute [^:]*|statement): *(\S+)", re.MULTILINE)
_NAMES = ("echo", "sync_echo", "steps", "customs", "chat", "talker", "paced", "big")
GUESTS = {name: f"{_HERE / 'graphs.py'}:{name}" for name in _NAMES}
NO_GUESTS = {"nothing": f"{_HERE / 'bare.py'}:graph"}


@dataclass(slots=True)
class Subject:
    port: int
    process: psutil.Process
    postgres: Running
    database: str
    start_seconds: float

    def cpu(self) -> float:
        """CPU seconds of the server and of Postgres so far, ended backends included."""
        return _tree_cpu(self.process) + sum(_tree_cpu(root) for root in self._postmasters())

    def server_cpu(self) -> float:
        return _tree_cpu(self.process)

    def rss(self) -> int:
        """Bytes of the server process."""
        return int(self.process.memory_info().rss)

    def _postmasters(self) -> list[psutil.Process]:
        pid = int((self.postgres.data / "postmaster.pid").read_text().splitlines()[0])
        return [psutil.Process(pid)]

    def sql(self, statement: str) -> object:
        with psycopg.connect(self.postgres.dsn(self.database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    @contextmanager
    def statements(self) -> Iterator[list[int]]:
        """Counts what the server executes in the block, BEGIN and COMMIT left out. Raises when none of it is seen."""
        log = self.postgres.data.with_name(self.postgres.data.name + ".run") / "postgres.log"
        self.sql("ALTER SYSTEM SET log_statement = 'all'")
        self.sql("ALTER SYSTEM SET log_line_prefix = '%a|'")
        self.sql("SELECT pg_reload_conf()")
        time.sleep(1.0)
        start = log.stat().st_size
        found = [0]
        try:
            yield found
        finally:
            time.sleep(0.5)
            with log.open("rb") as lines:
                lines.seek(start)
                text = lines.read().decode(errors="replace")
            found[0] = sum(first.upper() not in _BRACKETS for first in _EXECUTED.findall(text))
            self.sql("ALTER SYSTEM RESET log_statement")
            self.sql("SELECT pg_reload_conf()")
        if not found[0]:
            raise RuntimeError(f"{log} shows no statement of the server, so they cannot be counted")

    def transactions(self) -> int:
        """How many transactions have written so far."""
        return int(str(self.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")))


def _tree_cpu(root: psutil.Process) -> float:
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
        if process == root:
            total += times.children_user + times.children_system
    return total


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def subject(graphs: Mapping[str, str] = GUESTS) -> Iterator[Subject]:
    """A server for these graphs on a database of its own, stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="heddle-bench-") as folder:
        base = Path(folder)
        base.chmod(0o711)
        config = base / "agent.json"
        config.write_text(json.dumps({"dependencies": [str(_HERE.parent)], "graphs": dict(graphs)}))
        with EmbeddedPostgres.start(base / "pg") as postgres:
            port = _free_port()
            env = {
                "PATH": os.environ["PATH"],
                "HOME": folder,
                "DATABASE_URL": postgres.dsn(),
                "HEDDLE_DATA_DIR": str(base / "data"),
                "LOG_LEVEL": "WARNING",
            }
            log = base / "server.log"
            heddle = Path(sys.executable).with_name("heddle")
            started = time.perf_counter()
            with log.open("wb") as out:
                process = subprocess.Popen(
                    [heddle, "serve", "--config", config, "--port", str(port)], env=env, stdout=out, stderr=out
                )
            try:
                _wait(port, process, log)
                seconds = time.perf_counter() - started
                yield Subject(port, psutil.Process(process.pid), postgres, "heddle", seconds)
            finally:
                process.terminate()
                process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended:\n{log.read_text()}")
        try:
            with urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.01)
    raise SystemExit(f"the server was not ready:\n{log.read_text()}")
