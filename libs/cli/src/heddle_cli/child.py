"""A server process seen from its parent: start it, hear whether it is ready, stop it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from heddle_cli.server_process import DEFAULT_APP, Job
from heddle_server.config import StartError


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a child said: it is ready, or it cannot start and this is why."""

    failure: StartError | None = None

    @property
    def is_ready(self) -> bool:
        return self.failure is None


class Child:
    """One server process. It has its own session, so Ctrl-C on the terminal reaches only the parent."""

    def __init__(
        self,
        config: Path,
        listener: socket.socket,
        environ: Mapping[str, str],
        *,
        grace: float,
        app: str = DEFAULT_APP,
    ) -> None:
        orders, self._orders = os.pipe()
        self.news, news = os.pipe()
        job = Job(config=str(config), listener=listener.fileno(), orders=orders, news=news, grace=grace, app=app)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "heddle_cli.server_process", json.dumps(asdict(job))],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                pass_fds=(job.listener, job.orders, job.news),
                start_new_session=True,
            )
        finally:
            os.close(orders)
            os.close(news)

    def go_on(self, variables: Mapping[str, str]) -> None:
        """Give it the rest of its environment; until then it only imports."""
        try:
            os.write(self._orders, json.dumps(dict(variables)).encode() + b"\n")
        except BrokenPipeError:
            return  # it has ended already, and its news say why

    def hear(self) -> News:
        """Its one message. Blocks until there is one; an end without one is a failure too."""
        said = b""
        while not said.endswith(b"\n") and (part := os.read(self.news, 65536)):
            said += part
        if not said:
            code = self.process.wait()
            return News(
                failure=StartError(
                    f"the server process ended before it was ready ({describe_exit(code)})",
                    fix="its last words are above; LOG_LEVEL=DEBUG shows more",
                )
            )
        content = json.loads(said)
        if content.get("ready"):
            return News()
        return News(failure=StartError(content["error"], fix=content["fix"]))

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """Ask it to drain and end, by closing the pipe of its orders. A signal as well would be the second one."""
        if self._orders >= 0:
            os.close(self._orders)
            self._orders = -1

    def close(self) -> None:
        """Ask it to end, and stop listening to it."""
        self.stop()
        if self.news >= 0:
            os.close(self.news)
            self.news = -1

    def kill(self) -> None:
        """End it now, if it still runs, and forget it."""
        if self.is_running:
            self.process.kill()
        self.process.wait()
        self.close()


def describe_exit(code: int) -> str:
    """`exit code 3`, or the name of the signal."""
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
