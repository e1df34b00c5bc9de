"""`heddle chat` with a real server: one message, a conversation, questions, and an answer that is stopped."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from heddle_cli.postgres import Running
from heddle_server.dsn import Dsn
from tests.cli.commands import HEDDLE, ROOT, environment, free_port, heddle, project, until
from tests.support.postgres_server import fresh_database
from tests.support.server import Server, serving

GRAPHS = ROOT / "tests" / "system" / "agent.json"


@pytest.fixture(scope="module")
def server(postgres: Running, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with (
        fresh_database(postgres, migrated_template) as address,
        serving(address.libpq_url(), tmp_path_factory.mktemp("server"), config=GRAPHS) as running,
    ):
        yield running


def chat(server: Server, *words: str, cwd: Path, said: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HEDDLE, "chat", "--url", server.url, *words],
        cwd=cwd,
        env=environment(HOME=str(cwd)),
        input=said,
        stdin=subprocess.DEVNULL if said is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_one_message_gets_its_answer_streamed_and_once(server: Server, tmp_path: Path) -> None:
    done = chat(server, "--assistant", "talking", "hello", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert len(lines) == len(set(lines))


def test_custom_events_are_shown_as_they_come(server: Server, tmp_path: Path) -> None:
    done = chat(server, "--assistant", "custom", "hello", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "  - " in done.stdout


def test_a_graph_without_messages_answers_with_its_final_values(server: Server, tmp_path: Path) -> None:
    done = chat(server, "--assistant", "line", "hello", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"log": ["one", "two"]}
    assert done.stdout.startswith('{\n  "log"')


def test_the_final_values_come_after_the_last_question(server: Server, tmp_path: Path) -> None:
    done = chat(server, "--assistant", "ask", cwd=tmp_path, said="hello\none\ntwo\n/quit\n")
    assert json.loads(done.stdout[done.stdout.rindex("{") :])["log"] == ["before", "one", "two", "after"]


def test_a_conversation_goes_on_until_quit(server: Server, tmp_path: Path) -> None:
    done = chat(server, "--assistant", "talking", cwd=tmp_path, said="hello\n\nagain\n/quit\nnever said\n")
    assert done.returncode == 0, done.stderr
    assert "never said" not in done.stdout


def test_a_question_of_the_agent_is_asked_and_answered(server: Server, tmp_path: Path) -> None:
    done = chat(server, "--assistant", "ask", cwd=tmp_path, said="hello\none\ntwo\n/quit\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("first?") < done.stdout.index("second?")


BROKEN = """
from langgraph.graph import START, MessagesState, StateGraph

def fail(state):
    raise ValueError("the cat is on the keyboard")

graph = StateGraph(MessagesState).add_node("fail", fail).add_edge(START, "fail")
"""


def test_a_run_that_fails_says_so(database: Dsn, tmp_path: Path) -> None:
    config = project(tmp_path / "p", BROKEN) / "agent.json"
    with serving(database.libpq_url(), tmp_path, config=config) as server:
        done = chat(server, "--assistant", "one", "hello", cwd=tmp_path)
    assert done.returncode == 1
    assert "the run failed: ValueError" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_assistant_and_an_unknown_thread_are_told(server: Server, tmp_path: Path) -> None:
    done = chat(server, "--assistant", "nobody", "hello", cwd=tmp_path)
    assert done.returncode == 1
    assert "nobody" in done.stderr
    done = chat(server, "--thread", "00000000-0000-0000-0000-00000000dead", "hello", cwd=tmp_path)
    assert done.returncode == 1
    assert "--thread" in done.stderr


def test_without_a_server_the_message_names_the_command_that_starts_one(tmp_path: Path) -> None:
    done = heddle("chat", "--url", f"http://127.0.0.1:{free_port()}", "hello", cwd=tmp_path)
    assert done.returncode == 1
    assert "make dev" in done.stderr
    assert "Traceback" not in done.stderr
    assert heddle("chat", "--url", "localhost:2024", "hello", cwd=tmp_path).returncode == 1


SLOW = """
import asyncio
from langgraph.graph import START, MessagesState, StateGraph

async def wait(state):
    await asyncio.sleep(60)
    return {}

graph = StateGraph(MessagesState).add_node("wait", wait).add_edge(START, "wait")
"""


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command: list[str], cwd: Path) -> None:
        self._screen, keyboard = pty.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(HOME=str(cwd), TERM="dumb"),
            stdin=keyboard,
            stdout=keyboard,
            stderr=keyboard,
            start_new_session=True,
        )
        os.close(keyboard)
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def shows(self, text: str, seconds: float = 20) -> None:
        """Wait for `text` after what was waited for before."""
        deadline = time.monotonic() + seconds
        while text not in self._seen:
            assert time.monotonic() < deadline, self._seen
            if select.select([self._screen], [], [], 0.1)[0]:
                self._seen += re.sub(
                    r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(self._screen, 4096).decode(errors="replace")
                )
        self._seen = self._seen.partition(text)[2]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._screen)


def test_on_a_terminal_ctrl_c_stops_the_answer_and_the_chat_goes_on(database: Dsn, tmp_path: Path) -> None:
    config = project(tmp_path / "p", SLOW) / "agent.json"
    with serving(database.libpq_url(), tmp_path, config=config) as server:
        terminal = Terminal([str(HEDDLE), "chat", "--url", server.url, "--assistant", "one"], tmp_path)
        try:
            terminal.shows("> ")
            terminal.type("hello\r")
            until(lambda: _runs(server, "running"))
            os.kill(terminal.process.pid, signal.SIGINT)
            terminal.shows("(stopped)")
            until(lambda: not _runs(server, "running"))
            terminal.shows("> ")
            terminal.type("/quit\r")
            assert terminal.process.wait(20) == 130
        finally:
            terminal.close()
    assert (tmp_path / ".local/state/heddle/chat_history").stat().st_mode & 0o777 == 0o600


def _runs(server: Server, status: str) -> int:
    """How many runs of the threads the server knows have this status."""
    with httpx.Client(base_url=server.url) as http:
        threads = http.post("/threads/search", json={}).json()
        return sum(
            run["status"] == status
            for thread in threads
            for run in http.get(f"/threads/{thread['thread_id']}/runs").json()
        )
