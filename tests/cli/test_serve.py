"""`heddle serve`: one process in production, several on one database, and a drain that nothing cuts short."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from urllib.request import urlopen

import psutil

from tests.cli.commands import around_small_app, get, heddle, project, until


def database_processes(folder: Path) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cwd"]) if (p.info["cwd"] or "").startswith(str(folder / ".heddle"))]


def test_two_processes_share_the_embedded_database_which_ends_with_the_last(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    with around_small_app("serve", folder) as (first, url), around_small_app("serve", folder) as (second, other):
        first.hears("server_ready")
        second.hears("server_ready")
        assert get(f"{url}/about")["pid"] != get(f"{other}/about")["pid"]
        first.signal(signal.SIGTERM)
        assert first.ends() == 0
        assert get(f"{other}/about")["database"] == "heddle"
        second.signal(signal.SIGTERM)
        assert second.ends() == 0
    assert database_processes(folder) == []


def test_the_drain_ends_open_streams_and_runs_the_shutdown(tmp_path: Path) -> None:
    folder, mark = project(tmp_path / "p"), tmp_path / "mark"
    env = {"SMALL_APP_MARK": str(mark), "LOG_JSON": "true"}
    with around_small_app("serve", folder, env) as (program, url):
        program.hears("server_ready")
        assert get(f"{url}/about")["grace"] == 180
        assert get(f"{url}/about")["environment"] == "production"
        with urlopen(f"{url}/stream", timeout=20) as stream:
            assert stream.readline() == b"begun\n"
            program.signal(signal.SIGTERM)
            assert stream.readline() == b"drained\n"
        assert program.ends() == 0
        assert mark.exists()
        assert '"event":"server_stopping"' in program.output


def test_a_run_that_does_not_finish_is_given_back_after_the_grace_period_and_its_stream_ends(tmp_path: Path) -> None:
    env = {"BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "1"}
    with around_small_app("serve", project(tmp_path / "p"), env) as (program, url):
        program.hears("server_ready")
        with urlopen(f"{url}/run", timeout=20) as stream:
            assert stream.readline() == b"begun\n"
            began = time.monotonic()
            program.signal(signal.SIGTERM)
            assert stream.readline() == b"given back\n"
            assert 0.9 < time.monotonic() - began < 3
        assert program.ends() == 0


def test_a_second_signal_stops_at_once_and_the_database_too(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    with around_small_app("serve", folder) as (program, url):
        program.hears("server_ready")
        with urlopen(f"{url}/hang", timeout=20) as stream:
            assert stream.readline() == b"begun\n"
            program.signal(signal.SIGTERM)
            program.hears("server_stopping")
            program.signal(signal.SIGTERM)
            assert program.ends(5) == 128 + signal.SIGTERM
    deadline = time.monotonic() + 20
    while database_processes(folder):
        assert time.monotonic() < deadline
        time.sleep(0.02)


BUSY = """
import threading, time
threading.Thread(target=time.sleep, args=(30,)).start()
graph = "first"
"""


def test_a_thread_of_a_graph_does_not_keep_the_process(tmp_path: Path) -> None:
    folder, mark = project(tmp_path / "p", BUSY), tmp_path / "mark"
    with around_small_app("serve", folder, {"SMALL_APP_MARK": str(mark)}) as (program, _):
        program.hears("server_ready")
        program.signal(signal.SIGTERM)
        assert program.ends(5) == 0
        assert "threads_left_behind" in program.output
    assert mark.exists()
    assert database_processes(folder) == []


def test_a_thread_of_a_graph_does_not_keep_a_process_that_cannot_start(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", BUSY + "raise ValueError\n")
    with around_small_app("serve", folder) as (program, _):
        assert program.ends() == 1
        assert "does not import" in program.output
    assert database_processes(folder) == []


def test_a_killed_keeper_of_the_database_is_replaced(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    with around_small_app("serve", folder) as (program, url):
        program.hears("server_ready")
        keeper = next(
            p.pid
            for p in psutil.process_iter(["cmdline"])
            if f"{folder}/.heddle/pg.run" in " ".join(p.info["cmdline"] or [])
        )
        os.kill(keeper, signal.SIGKILL)
        program.hears("postgres_started_again")
        assert get(f"{url}/about")["database"] == "heddle"


def test_split_roles_are_refused_by_name(tmp_path: Path) -> None:
    for command in ("serve", "dev"):
        done = heddle(command, "--role", "worker", cwd=project(tmp_path / command))
        assert done.returncode == 1
        assert "split roles need Redis and come with it" in done.stderr


def test_an_address_that_others_reach_is_refused(tmp_path: Path) -> None:
    done = heddle("serve", "--host", "0.0.0.0", cwd=project(tmp_path / "p"))
    assert done.returncode == 1
    assert "--allow-unauthenticated" in done.stderr


def test_a_project_file_may_be_named(tmp_path: Path) -> None:
    done = heddle("serve", "--config", str(tmp_path / "nowhere.json"), cwd=tmp_path)
    assert done.returncode == 1
    assert "nowhere.json does not exist" in done.stderr


def test_a_broken_project_file_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text('{"graphs": {"a": "./a.py:graph"},}')
    for command in ("dev", "serve", "migrate check", "demo"):
        done = heddle(*command.split(), cwd=tmp_path)
        assert done.returncode == 1
        assert "line 1, column" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_refused_setting_is_one_message(tmp_path: Path) -> None:
    done = heddle("serve", cwd=project(tmp_path / "p"), REDIS_URL="redis://localhost")
    assert done.returncode == 1
    assert "REDIS_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_where_a_start_error_comes_from(tmp_path: Path) -> None:
    done = heddle("serve", "--config", "nowhere.json", cwd=tmp_path, LOG_LEVEL="DEBUG")
    assert "Traceback" in done.stderr
    assert "nowhere.json does not exist" in done.stderr


def test_a_client_that_connected_just_before_the_stop_is_answered(tmp_path: Path) -> None:
    with around_small_app("serve", project(tmp_path / "p")) as (program, url):
        program.hears("server_ready")
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=20) as early, urlopen(f"{url}/stream", timeout=20) as stream:
            assert stream.readline() == b"begun\n"  # so the server has taken the connection before this one, too
            program.signal(signal.SIGTERM)
            assert stream.readline() == b"drained\n"
            until(lambda: refused(address))
            early.sendall(b"GET /about HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answer = early.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert program.ends() == 0


def test_a_client_that_never_asks_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    with around_small_app("serve", project(tmp_path / "p")) as (program, url):
        program.hears("server_ready")
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20) as silent:
            get(f"{url}/about")
            program.signal(signal.SIGTERM)
            assert silent.recv(1) == b""
            assert program.ends() == 0


def refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False
