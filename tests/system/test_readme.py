"""What the README and the tutorial tell a newcomer to type, typed: each block of code in turn, on a real server."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest

from heddle_server.dsn import Dsn
from tests.cli.commands import HEDDLE, Program, environment, free_port, until
from tests.support.server import ROOT

ADDRESS = "http://127.0.0.1:2024"


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(language, text) for language, text in found]


class Newcomer:
    """A project like the repository's in a folder of its own, `heddle dev` running in it, and a terminal."""

    def __init__(self, folder: Path, database: Dsn) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = environment(HOME=str(folder), DATABASE_URL=database.libpq_url(), PORT=str(self.port))
        (folder / "graphs").symlink_to(ROOT / "graphs")
        (folder / "agent.json").write_text((ROOT / "agent.json").read_text())
        self.start()

    def start(self) -> None:
        self.server = Program([str(HEDDLE), "dev"], self.folder, self.env)
        until(self._is_ready, 60)

    def _is_ready(self) -> bool:
        assert self.server.process.poll() is None, self.server.output
        with suppress(OSError), urlopen(f"{self.url}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def stop(self) -> None:
        self.server.signal(signal.SIGINT)
        assert self.server.ends(30) == 0, self.server.output

    def types(self, script: str) -> str:
        """A block in a shell. Every command of it must succeed, and curl must not meet an error."""
        script = script.replace(ADDRESS, self.url).replace(".venv/bin/heddle", str(HEDDLE))
        script = script.replace("curl -s ", "curl -sS --fail-with-body ")
        return self._runs(["sh", "-euc", script])

    def runs_python(self, text: str) -> str:
        return self._runs([sys.executable, "-c", text.replace(ADDRESS, self.url)])

    def _runs(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}\n{self.server.output}"
        return done.stdout

    def waits_for_graph(self, name: str) -> None:
        """The running server picks up a changed project file by itself."""
        self.server.hears("heddle: reloaded", seconds=60)
        dev = psutil.Process(self.server.process.pid)
        until(lambda: len(dev.children()) == 1, 30)  # the server that ran before has left
        with urlopen(f"{self.url}/assistants/{name}/schemas", timeout=5) as answer:
            assert answer.status == 200


def make_targets() -> set[str]:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in said.splitlines()}


@pytest.fixture
def newcomer(database: Dsn, tmp_path: Path) -> Iterator[Newcomer]:
    person = Newcomer(tmp_path, database)
    yield person
    if person.server.process.poll() is None:
        person.stop()


def documents(text: str) -> list[Any]:
    """The JSON documents that several curls printed one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found


def test_the_tour_of_the_readme_works_as_it_is_written(newcomer: Newcomer) -> None:
    two_commands, chat, curls, sdk, graph, project, own = blocks(ROOT / "README.md")
    assert set(re.findall(r"^make (\w+)", two_commands.text, re.MULTILINE)) <= make_targets()

    said = newcomer.types(chat.text)
    assert re.search(r"\b[0-9a-f]{40}\b", said), "the commit is named"
    assert "0 6 * * *" in said

    ok, answer = documents(newcomer.types(curls.text))
    assert ok == {"ok": True}
    assert "/agent create" in answer["messages"][-1]["content"]

    printed = newcomer.runs_python(sdk.text)
    assert printed.startswith("metadata ")
    assert "\nvalues " in printed

    (newcomer.folder / "my_graph.py").write_text(graph.text)
    (newcomer.folder / "agent.json").write_text(project.text)
    newcomer.waits_for_graph("greeter")
    (greeted,) = documents(newcomer.types(own.text))
    assert greeted["greeting"] == "Hello, Ada!"


def test_the_tutorial_works_as_it_is_written(newcomer: Newcomer) -> None:
    page = ROOT / "docs" / "tutorial" / "first-graph.md"
    graph, run, look, answer, back = blocks(page)
    entry = re.search(r'Add `("review": "[^"]+")` to `graphs`', page.read_text())
    assert entry is not None

    (newcomer.folder / "review.py").write_text(graph.text)
    project = json.loads((newcomer.folder / "agent.json").read_text())
    project["graphs"] |= json.loads(f"{{{entry[1]}}}")
    (newcomer.folder / "agent.json").write_text(json.dumps(project))
    newcomer.waits_for_graph("review")

    *output, thread_id = newcomer.types(f"{run.text}\necho; echo $THREAD\n").split()
    asked = json.loads(" ".join(output))
    assert asked["draft"]
    assert asked["__interrupt__"][0]["value"]["question"] == "Send this?"

    same_shell = f"THREAD={thread_id}\n"
    (thread,) = documents(newcomer.types(same_shell + look.text))
    assert thread["status"] == "interrupted"
    (run_row,) = documents(newcomer.types(f"curl -s {ADDRESS}/threads/{thread_id}/runs"))
    assert [each["status"] for each in run_row] == ["success"]

    newcomer.stop()
    newcomer.start()
    (resumed,) = documents(newcomer.types(same_shell + answer.text))
    assert resumed["verdict"] == "yes, send it"

    (states,) = documents(newcomer.types(same_shell + back.text))
    assert states[0]["values"]["verdict"] == "yes, send it"
    assert states[0]["next"] == []
    again = {"assistant_id": "review", "checkpoint": {"checkpoint_id": states[-1]["checkpoint_id"]}, "input": None}
    (forked,) = documents(newcomer.types(f"curl -s {ADDRESS}/threads/{thread_id}/runs/wait -d '{json.dumps(again)}'"))
    assert forked["__interrupt__"]


def test_every_make_target_that_is_named_exists() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"`(?:PORT=\d+ )?make ([a-z-]+)`", page.read_text())}
    assert named - make_targets() == set()
