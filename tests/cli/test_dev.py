"""`heddle dev`: ready with a banner, reload without a gap, stop in order."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from tests.cli.commands import around_small_app, environment, get, project, until


def processes_in(folder: Path) -> list[str]:
    """What still runs with that folder as its data: the database server shows by its working folder."""
    return [
        p.info["name"] for p in psutil.process_iter(["name", "cwd"]) if (p.info["cwd"] or "").startswith(str(folder))
    ]


def test_it_says_where_it_is_with_what_and_what_to_do_first(tmp_path: Path) -> None:
    project(tmp_path / "p")
    with around_small_app("dev", tmp_path / "p") as (program, url):
        program.hears("Try it")
        said = program.output
        assert f"API        {url}" in said
        assert f"{url}/docs" in said
        assert f"baseUrl={url}" in said
        assert "embedded PostgreSQL 18 in .heddle/pg" in said
        assert "Graphs     one" in said
        assert f"chat --url {url}" in said
        about = get(f"{url}/about")
        assert about["database"] == "heddle"
        assert about["data_dir"] == str(tmp_path / "p" / ".heddle")
        assert about["environment"] == "development"
        assert (tmp_path / "p" / ".heddle").stat().st_mode & 0o777 == 0o700


def test_a_change_is_served_without_a_refused_connection(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    with around_small_app("dev", folder) as (program, url):
        program.hears("Try it")
        first = get(f"{url}/about")
        (folder / "one.py").write_text('graph = "second"\n')
        until(lambda: get(f"{url}/about")["words"] == {"one": "second"})  # every answer before it came, too
        program.hears("reloaded")
        until(lambda: get(f"{url}/about") and not psutil.pid_exists(first["pid"]))  # both serve until the first leaves
        assert get(f"{url}/about")["words"] == {"one": "second"}


@pytest.mark.parametrize(
    ("mistake", "said"),
    [("graph = (\n", "one.py, line 1: '(' was never closed"), ("raise RuntimeError('oh')\n", "does not import")],
    ids=["syntax", "import"],
)
def test_a_mistake_is_told_and_the_server_goes_on(tmp_path: Path, mistake: str, said: str) -> None:
    folder = project(tmp_path / "p")
    with around_small_app("dev", folder) as (program, url):
        program.hears("Try it")
        (folder / "one.py").write_text(mistake)
        program.hears(said)
        assert "Traceback" not in program.output
        assert get(f"{url}/about")["words"] == {"one": "first"}
        (folder / "one.py").write_text('graph = "mended"\n')
        until(lambda: get(f"{url}/about")["words"] == {"one": "mended"})


def test_a_changed_project_file_is_read_again(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    with around_small_app("dev", folder) as (program, url):
        program.hears("Try it")
        (folder / "agent.json").write_text('{"graphs": {')
        program.hears("not valid JSON")
        (folder / "agent.json").write_text('{"graphs": {"other": "./one.py:graph"}}')
        until(lambda: get(f"{url}/about")["words"] == {"other": "first"})


def test_the_first_start_fails_with_one_message_and_no_traceback(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", "raise RuntimeError('oh')\n")
    with around_small_app("dev", folder) as (program, _):
        assert program.ends() == 1
        assert "does not import" in program.output
        assert "fix: correct" in program.output
        assert "Traceback" not in program.output
    assert processes_in(folder) == []


def test_a_taken_port_is_one_message_that_names_the_fix(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with around_small_app("dev", project(tmp_path / "p"), port=port) as (program, _):
            assert program.ends() == 1
            assert f"port {port} on 127.0.0.1 is taken" in program.output
            assert "--port" in program.output
            assert "Traceback" not in program.output


def test_an_unreachable_database_is_one_message_that_names_the_fix(tmp_path: Path) -> None:
    env = {"DATABASE_URL": "postgres://u:hunter2@127.0.0.1:1/app"}
    with around_small_app("dev", project(tmp_path / "p"), env) as (program, _):
        assert program.ends() == 1
        assert "cannot reach postgresql://u:***@127.0.0.1:1/app" in program.output
        assert "DATABASE_URL" in program.output
        assert "hunter2" not in program.output
        assert "Traceback" not in program.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_drains_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    folder, mark = project(tmp_path / "p"), tmp_path / "mark"
    with around_small_app("dev", folder, {"SMALL_APP_MARK": str(mark)}) as (program, url):
        program.hears("Try it")
        with urlopen(f"{url}/stream", timeout=20) as stream:
            assert stream.readline() == b"begun\n"
            program.signal(number)
            assert stream.readline() == b"drained\n"  # it was open, so it was let finish
        assert program.ends() == 0
        assert mark.read_text() == "stopped in order"
    assert processes_in(folder) == []


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    folder, mark = project(tmp_path / "p"), tmp_path / "mark"
    with around_small_app("dev", folder, {"SMALL_APP_MARK": str(mark)}) as (program, url):
        program.hears("Try it")
        with urlopen(f"{url}/hang", timeout=20) as stream:
            assert stream.readline() == b"begun\n"
            program.signal(signal.SIGINT)
            program.hears("stopping")
            began = time.monotonic()
            program.signal(signal.SIGINT)
            assert program.ends() == 130
            assert time.monotonic() - began < 2.5
        assert not mark.exists()
    assert processes_in(folder) == []


def test_a_killed_parent_takes_server_and_database_with_it(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    with around_small_app("dev", folder) as (program, url):
        program.hears("Try it")
        child = get(f"{url}/about")["pid"]
        program.signal(signal.SIGKILL)
        until(lambda: not psutil.pid_exists(child))
        until(lambda: processes_in(folder) == [])


def test_a_server_that_dies_is_reported_and_comes_back_with_a_change(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    with around_small_app("dev", folder) as (program, url):
        program.hears("Try it")
        os.kill(get(f"{url}/about")["pid"], signal.SIGKILL)
        program.hears("ended unexpectedly (killed by SIGKILL)")
        (folder / "one.py").write_text('graph = "again"\n')
        until(lambda: _words(url) == {"one": "again"})


def _words(url: str) -> object:
    with contextlib.suppress(OSError):
        return get(f"{url}/about")["words"]
    return None


def test_without_reload_a_server_that_dies_ends_the_command(tmp_path: Path) -> None:
    with around_small_app("dev", project(tmp_path / "p"), reload=False) as (program, url):
        program.hears("Try it")
        os.kill(get(f"{url}/about")["pid"], signal.SIGKILL)
        assert program.ends() == 1


def test_an_address_that_others_reach_needs_a_word(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    with around_small_app("dev", folder, host="0.0.0.0") as (program, _):
        assert program.ends() == 1
        assert "--allow-unauthenticated" in program.output
    with around_small_app("dev", folder, host="0.0.0.0", allow_unauthenticated=True) as (program, url):
        program.hears("Try it")
        assert "warning: 0.0.0.0 can be reached by others" in program.output
        assert get(f"{url}/about")["database"] == "heddle"


def test_the_parent_loads_no_web_or_graph_library() -> None:
    program = "import heddle_cli.commands.dev, heddle_cli.main, sys; print(*sys.modules)"
    seen = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    heavy = {
        "fastapi",
        "langgraph",
        "langchain_core",
        "pydantic",
        "sqlalchemy",
        "asyncpg",
        "uvicorn",
        "structlog",
        "asyncio",
    }
    assert heavy & {name.split(".")[0] for name in seen.stdout.split()} == set()


def test_a_thread_of_a_graph_does_not_keep_the_server_process(tmp_path: Path) -> None:
    graph = 'import threading, time\nthreading.Thread(target=time.sleep, args=(30,)).start()\ngraph = "first"\n'
    with around_small_app("dev", project(tmp_path / "p", graph)) as (program, _):
        program.hears("Try it")
        program.signal(signal.SIGTERM)
        assert program.ends(6) == 0
