"""A real server in a process of its own, as users start it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
GRAPHS = ROOT / "tests" / "system" / "agent.json"
READY_SECONDS = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Server:
    """`process` is `heddle serve`; its output is in `log`."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.output()}")
            try:
                with urlopen(f"{self.url}/ready", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (HTTPError, URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise TimeoutError(f"the server was not ready in {READY_SECONDS} s:\n{self.output()}")

    def kill(self) -> None:
        """As `kill -9` does: no goodbye."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self, seconds: float = 20) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@contextmanager
def serving(
    database_url: str,
    folder: Path,
    *,
    config: Path = GRAPHS,
    name: str = "server",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """`heddle serve` on a free port, stopped at the end. `environment` adds to a nearly empty one."""
    port = free_port()
    log = folder / f"{name}-{port}.log"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DATABASE_URL": database_url,
        "HEDDLE_DATA_DIR": str(folder / "data"),
        "LOG_LEVEL": "INFO",
        **(environment or {}),
    }
    command = [str(Path(sys.executable).parent / "heddle"), "serve", "--config", str(config), "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env, cwd=folder)
    server = Server(process, port, log, env)
    try:
        server.wait_until_ready()
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            server.stop()
