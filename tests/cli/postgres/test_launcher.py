"""The embedded server through its front door: start, share, stop, and everything that has gone wrong elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from heddle_cli.postgres import EmbeddedPostgres, binaries
from heddle_server.config import StartError
from tests.cli.postgres.servers import HOLDER, answers, ask, copy, holder, servers, start, state, until
from tests.support.require import require


def test_a_first_start_makes_the_database_and_a_stop_leaves_nothing_running(tmp_path: Path) -> None:
    data = tmp_path / "new" / ".heddle" / "pg"
    with start(data) as running:
        assert running.owned
        assert ask(running.dsn(), "select current_database()") == "heddle"
        assert stat.S_IMODE(data.parent.stat().st_mode) == 0o700
    assert servers(data) == []
    assert not list(data.parent.glob("pg.new-*"))


def test_data_survives_a_stop_and_a_start(data: Path) -> None:
    with start(data) as running:
        ask(running.dsn(), "create table kept as select 42 as answer")
    with start(data) as running:
        assert ask(running.dsn(), "select answer from kept") == 42


@pytest.mark.parametrize(
    "name",
    [
        "My Projects",
        'it\'s "quoted"',
        "a, comma",
        "$(touch x); `id` & |",
        "Zürich 市",
        "a:b%2Fc?d#e&f=g",
        "x" * 120,
    ],
    ids=["space", "quotes", "comma", "shell", "unicode", "url", "longer than a socket may be"],
)
def test_any_folder_name_works(made: Path, tmp_path: Path, name: str) -> None:
    data = copy(made, tmp_path / name / ".heddle" / "pg")
    with start(data) as running:
        assert ask(running.dsn()) == 1
        connected = asyncio.run(_connect_with(running.address().asyncpg_kwargs()))
        assert connected == "heddle"


async def _connect_with(kwargs: dict[str, Any]) -> object:
    connection = await asyncpg.connect(**kwargs)
    try:
        return await connection.fetchval("select current_database()")
    finally:
        await connection.close()


def test_a_socket_that_does_not_fit_the_data_folder_is_in_a_private_one_and_is_removed(
    made: Path, tmp_path: Path
) -> None:
    data = copy(made, tmp_path / ("y" * 110) / "pg")
    with start(data) as running:
        folder = Path(str(running.address().host))
        assert folder != data
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / ".s.PGSQL.5432").stat().st_mode) == 0o700
    assert not folder.exists()


def test_the_socket_is_private(data: Path) -> None:
    with start(data):
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert stat.S_IMODE((data / ".s.PGSQL.5432").stat().st_mode) == 0o700


@pytest.mark.parametrize("number", ["a living stranger", "a zombie", "nobody"])
def test_a_stale_pid_file_is_not_believed_and_a_stranger_is_not_harmed(data: Path, number: str) -> None:
    stranger = subprocess.Popen(["sleep", "60"] if number == "a living stranger" else ["true"])
    try:
        if number == "a zombie":
            until(lambda: psutil.Process(stranger.pid).status() == psutil.STATUS_ZOMBIE)
        pid = 4194303 if number == "nobody" else stranger.pid
        (data / "postmaster.pid").write_text(f"{pid}\n{data}\n1700000000\n5432\n{data}\n\n  5432001  32768\nready   \n")
        (data / ".s.PGSQL.5432.lock").write_text(f"{pid}\n{data}\n1700000000\n5432\n{data}\n")
        with start(data) as running:
            assert running.owned
            assert ask(running.dsn()) == 1
        if number == "a living stranger":
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_several_processes_share_one_server_which_ends_with_the_last(data: Path) -> None:
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(holder(data)) for _ in range(3)]
        assert [said["owned"] for _, said in others] == [True, False, False]
        first, _ = others[0]
        assert first.stdin is not None
        first.stdin.close()
        first.wait(20)
        assert answers(others[1][1]["dsn"])
    assert servers(data) == []


def test_a_race_of_starters_gets_one_server(data: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    said = [json.loads(process.stdout.readline()) for process in processes if process.stdout]
    assert sum(one["owned"] for one in said) == 1
    assert len({one["dsn"] for one in said}) == 1
    for process in processes:
        process.communicate(timeout=30)
    assert [process.returncode for process in processes] == [0] * 5
    assert servers(data) == []


def test_the_server_ends_when_its_only_user_is_killed(data: Path) -> None:
    with holder(data) as (process, said):
        assert answers(said["dsn"])
        process.kill()
        until(lambda: servers(data) == [])


def test_the_server_outlives_a_killed_user_while_another_uses_it(data: Path) -> None:
    with holder(data) as (process, said), start(data) as running:
        connection = start(data)
        process.kill()
        process.wait()
        assert not running.owned
        assert answers(said["dsn"])
        connection.stop()
        assert answers(said["dsn"])
    assert servers(data) == []


def test_a_killed_server_comes_back_with_its_data(data: Path) -> None:
    with EmbeddedPostgres.start(data) as running:
        ask(running.dsn(), "create table kept as select 42 as answer")
        before = state(data)["pid"]
        os.kill(before, signal.SIGKILL)
        until(lambda: state(data)["pid"] != before)
        until(lambda: answers(running.dsn()))
        assert ask(running.dsn(), "select answer from kept") == 42
        assert not running.ensure()
    assert servers(data) == []


@pytest.mark.parametrize("lifeline", ["prctl", "pipe"])
def test_a_killed_keeper_takes_the_server_with_it_and_both_can_be_started_again(data: Path, lifeline: str) -> None:
    if lifeline == "prctl" and not sys.platform.startswith("linux"):
        pytest.skip("only Linux can tell a process that its parent died")
    with start(data, lifeline=lifeline) as running:
        os.kill(state(data)["keeper"], signal.SIGKILL)
        until(lambda: not running.is_up())
        until(lambda: servers(data) == [])
        assert running.ensure()
        assert answers(running.dsn())
    assert servers(data) == []


def test_killed_keeper_and_server_leave_nothing_that_stops_the_next_start(data: Path) -> None:
    with start(data):
        found = state(data)
        os.kill(found["keeper"], signal.SIGKILL)
        os.kill(found["pid"], signal.SIGKILL)
        until(lambda: servers(data) == [])
    with start(data) as running:
        assert answers(running.dsn())


def test_a_server_that_somebody_else_started_is_left_alone(data: Path) -> None:
    with start(data):
        shutil.copy(data.with_name("pg.run") / "state.json", data.parent / "kept.json")
        os.rename(data.with_name("pg.run"), data.with_name("elsewhere"))  # a server with no keeper that we know
        with pytest.raises(StartError, match="Heddle did not start") as refused:
            start(data)
        assert "fast stop" in refused.value.fix
        assert servers(data) != []
        shutil.rmtree(data.with_name("pg.run"))
        os.rename(data.with_name("elsewhere"), data.with_name("pg.run"))


def test_a_foreign_server_on_port_5432_does_not_matter(data: Path) -> None:
    with socket.socket() as foreign:
        with contextlib.suppress(OSError):  # somebody else holds it: that is as good
            foreign.bind(("127.0.0.1", 5432))
            foreign.listen()
        with start(data) as running:
            assert ask(running.dsn(), "select inet_server_addr() is null")


def test_postgres_and_locale_variables_of_the_caller_do_not_reach_the_server(tmp_path: Path) -> None:
    hostile = {
        "PGPORT": "6543",
        "PGDATA": "/nonexistent",
        "PGHOST": "example.invalid",
        "PGOPTIONS": "-c nonsense=1",
        "LC_ALL": "xx_YY.UTF-8",
        "LANG": "xx_YY.UTF-8",
        "OPENAI_API_KEY": "sk-secret",
    }
    data = tmp_path / "pg"
    with holder(data, hostile) as (_, said):
        assert answers(said["dsn"])
        pid = state(data)["pid"]
        assert b"sk-secret" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert ask(said["dsn"], "show server_encoding") == "UTF8"


def test_a_folder_of_another_major_version_is_refused_with_the_way_on(data: Path) -> None:
    (data / "PG_VERSION").write_text("14\n")
    with pytest.raises(StartError) as refused:
        start(data)
    said = str(refused.value)
    assert str(data) in said
    assert "PostgreSQL 14" in said
    assert "PostgreSQL 18" in said
    assert "mv " in said


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o500])
def test_a_folder_with_the_wrong_mode_is_narrowed_and_no_parent_is_touched(data: Path, mode: int) -> None:
    data.chmod(mode)
    before = data.parent.stat().st_mode
    with start(data) as running:
        assert answers(running.dsn())
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert data.parent.stat().st_mode == before


def test_a_folder_with_other_things_in_it_is_not_taken(tmp_path: Path) -> None:
    data = tmp_path / "pg"
    data.mkdir()
    (data / "thesis.txt").write_text("years of work")
    with pytest.raises(StartError, match="not empty"):
        start(data)
    assert (data / "thesis.txt").exists()


def test_an_interrupted_first_start_is_begun_again(tmp_path: Path) -> None:
    leftover = tmp_path / "pg.new-abc"
    leftover.mkdir()
    (leftover / "PG_VERSION").write_text("18\n")
    with start(tmp_path / "pg") as running:
        assert answers(running.dsn())
    assert not leftover.exists()


def test_a_broken_cluster_says_why_and_where_to_read_on(data: Path) -> None:
    (data / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(StartError) as refused:
        start(data)
    assert "pg_control" in refused.value.message
    assert "postgres.log" in refused.value.fix
    assert servers(data) == []


def test_leaving_twice_is_harmless(data: Path) -> None:
    running = start(data)
    running.stop()
    running.stop()
    assert not running.is_up()


def test_the_settings_of_the_product_keep_data_safe(data: Path) -> None:
    with EmbeddedPostgres.start(data) as running:
        assert (
            ask(
                running.dsn(),
                "select string_agg(setting, ',') from pg_settings where name in ('fsync','full_page_writes')",
            )
            == "on,on"
        )
        assert ask(running.dsn(), "show synchronous_commit") == "on"
        assert ask(running.dsn(), "show listen_addresses") == ""


@pytest.mark.postgres15
def test_the_system_programs_serve_too(tmp_path: Path) -> None:
    older = [found for found in binaries.candidates() if not found.from_wheel]
    require("postgres15", bool(older), "apt-get install postgresql-15")
    with start(tmp_path / "pg", binaries=older[0]) as running:
        assert running.version == older[0].version
        assert str(ask(running.dsn(), "show server_version")).startswith(f"{older[0].version}.")


def test_without_any_programs_the_message_names_the_ways_out() -> None:
    with pytest.raises(StartError) as refused:
        binaries.first(iter(()))
    assert "glibc" in refused.value.fix
    assert "DATABASE_URL" in refused.value.fix
    assert "install PostgreSQL" in refused.value.fix
