"""Servers nobody looks after: what a killed keeper or another program left on our data folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from heddle_server.config import StartError

SOCKET_FOLDER_PREFIX = "heddle-pg-"
_GOING_PATIENCE = 5.0
_STOP_PATIENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a keeper wrote down about its server."""

    pid: int
    socket: str
    version: int


def read_state(run: Path) -> State | None:
    """The record of the running server, if it is up."""
    try:
        said = json.loads((run / "state.json").read_text())
        return State(pid=said["pid"], socket=said["socket"], version=said["version"])
    except FileNotFoundError:
        return None


def clear(data: Path, run: Path) -> None:
    """Make sure that no server runs on `data`. The caller holds the start lock, and there is no keeper.

    The server of a killed keeper is on its way out; one that stays is stopped if it is ours, and otherwise
    the start is refused. Nothing here trusts a pid alone: numbers come back after a restart.
    """
    state = read_state(run)
    if (data / "postmaster.pid").exists():
        _wait_until_gone(data, _GOING_PATIENCE)
        if (pid := find(data)) is not None:
            if state is None or state.pid != pid:
                raise StartError(
                    f"a PostgreSQL server that Heddle did not start runs on {data} (process {pid})",
                    fix=f"stop it (pg_ctl -D '{data}' -m fast stop, or kill -INT {pid}) and start again",
                )
            os.kill(pid, signal.SIGINT)
            if not _wait_until_gone(data, _STOP_PATIENCE):
                raise StartError(
                    f"the PostgreSQL server on {data} (process {pid}) does not stop",
                    fix=f"end it: kill -QUIT {pid}",
                )
    if state is not None:
        if Path(state.socket).name.startswith(SOCKET_FOLDER_PREFIX):
            shutil.rmtree(state.socket, ignore_errors=True)
        (run / "state.json").unlink()


def find(data: Path) -> int | None:
    """The process that serves `data`, if any: a living postgres whose working folder it is, and no backend."""
    import psutil  # 20 ms that an ordinary start need not pay

    for process in psutil.process_iter(["name", "cwd", "status", "cmdline"]):
        about = process.info
        if (
            (about["name"] or "").startswith("postgres")
            and about["cwd"] == str(data)
            and about["status"] != psutil.STATUS_ZOMBIE
            and not (about["cmdline"] or ["postgres:"])[0].startswith("postgres:")
        ):
            return int(process.pid)
    return None


def _wait_until_gone(data: Path, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while find(data) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
