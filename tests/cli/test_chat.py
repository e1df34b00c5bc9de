"""`heddle chat` with a real server: one message, a conversation, questions, and an answer that is stopped."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("heddle_server.main", reason="needs the server")

from tests.support.server import Server, serving

from heddle_cli.postgres import Running
from tests.cli.commands import HEDDLE, ROOT, environment, free_port, heddle
from tests.support.postgres_server import copy_of, drop

GRAPHS = ROOT / "tests" / "system" / "agent.json"


@pytest.fixture(scope="module")
def server(postgres: Running, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    address = copy_of(postgres, migrated_template)
    with serving(address.libpq_url(), tmp_path_factory.mktemp("server"), config=GRAPHS) as running:
        yield running
    drop(postgres, address)


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


def test_a_conversation_goes_on_until_quit(server: Server, tmp_path: Path) -> None:
    done = chat(server, "--assistant", "talking", cwd=tmp_path, said="hello\n\nagain\n/quit\nnever said\n")
    assert done.returncode == 0, done.stderr
    assert "never said" not in done.stdout


def test_a_question_of_the_agent_is_asked_and_answered(server: Server, tmp_path: Path) -> None:
    done = chat(server, "--assistant", "ask", cwd=tmp_path, said="hello\none\ntwo\n/quit\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("first?") < done.stdout.index("second?")


def test_a_run_that_fails_says_so(server: Server, tmp_path: Path) -> None:
    done = chat(server, "--assistant", "fail", "hello", cwd=tmp_path)
    assert done.returncode == 1
    assert "the run failed" in done.stderr
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


def test_on_a_terminal_ctrl_c_stops_the_answer_and_the_chat_goes_on(server: Server, tmp_path: Path) -> None:
    screen, keyboard = pty.openpty()
    process = subprocess.Popen(
        [HEDDLE, "chat", "--url", server.url, "--assistant", "sleepy"],
        cwd=tmp_path,
        env=environment(HOME=str(tmp_path), TERM="xterm"),
        stdin=keyboard,
        stdout=keyboard,
        stderr=keyboard,
        start_new_session=True,
    )
    os.close(keyboard)
    seen = ""

    def wait_for(text: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 30
        while text not in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen):
            assert time.monotonic() < deadline, seen
            part = os.read(screen, 4096).decode(errors="replace")
            if "\x1b[6n" in part:
                os.write(screen, b"\x1b[1;1R")  # the terminal says where its cursor is
            seen += part

    try:
        wait_for("> ")
        os.write(screen, b"hello\r")
        wait_for("hello")
        wait_for("hello\r\n")  # sent
        time_of_run = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        wait_for("(stopped)")
        assert time.monotonic() - time_of_run < 5  # the node would have slept longer
        os.write(screen, b"/quit\r")
        assert process.wait(30) == 130
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(screen)
    assert (tmp_path / ".local/state/heddle/chat_history").stat().st_mode & 0o777 == 0o600
