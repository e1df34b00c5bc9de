"""Running the `heddle` command as a user does, around the small application of the tests or the real one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
HEDDLE = Path(sys.executable).with_name("heddle")
SMALL_APP = "tests.cli.small_app:create_app"

_AROUND_THE_SMALL_APP = """
import sys
from heddle_cli.main import complain
from heddle_cli.commands import dev, serve
from heddle_server.config import StartError
what = {"dev": dev.develop, "serve": serve.serve}[sys.argv[1]]
options = __import__("json").loads(sys.argv[2])
try:
    sys.exit(what(None, app=options.pop("app"), **options))
except StartError as error:
    complain(error)
    sys.exit(1)
"""


def environment(**more: str) -> dict[str, str]:
    """A nearly empty environment, as on a new machine."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(ROOT), **more}


def heddle(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`heddle WORDS` to its end."""
    return subprocess.run(
        [HEDDLE, *words], cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=120, check=False
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until `what` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


class Program:
    """A running command, with what it has said so far."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self._lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def hears(self, text: str, times: int = 1, seconds: float = 20) -> None:
        """Wait until the program has said `text` so often."""
        deadline = time.monotonic() + seconds
        while self.output.count(text) < times:
            if self.process.poll() is not None:
                self._reader.join(5)
                assert self.output.count(text) >= times, f"it ended without saying {text!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"it did not say {text!r}:\n{self.output}"
            time.sleep(0.02)

    def ends(self, seconds: float = 20) -> int:
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextlib.contextmanager
def around_small_app(
    what: str, cwd: Path, env: dict[str, str] | None = None, **options: Any
) -> Iterator[tuple[Program, str]]:
    """`heddle dev` or `heddle serve` around the small application, and its address."""
    port = options.setdefault("port", free_port())
    words = json.dumps({"app": SMALL_APP, **options})
    program = Program([sys.executable, "-c", _AROUND_THE_SMALL_APP, what, words], cwd, environment(**(env or {})))
    try:
        yield program, f"http://127.0.0.1:{port}"
    finally:
        if program.process.poll() is None:
            program.signal(signal.SIGKILL)
        program.ends()


def get(url: str) -> dict[str, Any]:
    with urlopen(url, timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found


def project(folder: Path, graph: str = 'graph = "first"\n', **keys: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "one.py").write_text(graph)
    (folder / "agent.json").write_text(json.dumps({"graphs": {"one": "./one.py:graph"}, **keys}))
    return folder
