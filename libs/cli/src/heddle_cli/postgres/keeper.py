"""The process that owns a PostgreSQL server: it starts it, restarts it after a crash, and stops it.

It is a program of its own (`python -I -S keeper.py JOB`), so that the server does not depend on any one of
the processes that use it. Its rules:

* It holds the file `keeper` locked while it lives: whoever finds that lock free knows there is no keeper.
* Each process that uses the server holds a shared lock on the file `users`. The keeper waits for an
  exclusive one. The kernel grants it when the last user has left or died, in whatever way, `kill -9`
  included. Then the keeper stops the server and ends.
* A server that dies is started again, unless it dies five times in a minute.
* When the keeper itself is killed, the server must not stay behind: on Linux the kernel sends it SIGINT
  (PDEATHSIG), elsewhere a small watcher process does, when it sees the keeper's end of a pipe close.
* The server is stopped with SIGINT (fast). SIGTERM would wait for every client to leave.

It reports one JSON line on standard output: `{"ready": true}` or `{"error": "..."}`. It imports little, because
every cold start waits for it; and it runs as the caller, so as root it may lend the server another account.
"""

from __future__ import annotations

import _thread
import fcntl
import json
import os
import select
import signal
import sys
import time
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_LOG_LIMIT = 4 * 1024 * 1024
_MAX_DEATHS, _DEATHS_WINDOW = 5, 60.0
_STRAGGLERS_PATIENCE = 20.0  # backends of a killed server need a moment to notice; until then memory is in use


class StartFailed(Exception):
    """The server did not come up."""


class Keeper:
    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._data: str = job["data"]
        self._run: str = job["run"]
        self._pid = 0
        self._lifeline = -1
        self._deaths: list[float] = []
        self._data_fd = os.open(self._data, os.O_RDONLY | os.O_DIRECTORY)
        if job["lifeline"] == "prctl":
            import ctypes  # now: the server's account may not be able to read Python's library

            self._prctl = ctypes.CDLL(None).prctl

    def keep(self) -> int:
        if not self._take_office():
            return _report({"error": "another keeper looks after this folder"}, 1)
        wake = _wake_on(signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if self._job["lifeline"] == "pipe":
            self._lifeline = _fork_watcher()
        try:
            self._start()
        except StartFailed as failure:
            self._sweep()
            return _report({"error": str(failure)}, 1)
        unused = self._when_unused()  # opened before anybody hears of the server, so it is these users that count
        _report({"ready": True}, 0)
        code = self._watch(wake, unused)
        self._sweep()
        return code

    def _take_office(self) -> bool:
        lock = os.open(os.path.join(self._run, "keeper"), os.O_RDWR | os.O_CREAT, 0o600)
        for _ in range(200):  # a user who asks "is there a keeper?" holds the lock for an instant
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(0.01)
        return False

    def _watch(self, wake: int, unused: int) -> int:
        while True:
            ready, _, _ = select.select([wake, unused], [], [])
            told = set(os.read(wake, 64)) if wake in ready else set()
            if unused in ready or told - {signal.SIGCHLD}:
                self._stop()
                return 0
            if self._has_died():
                now = time.monotonic()
                self._deaths = [death for death in self._deaths if now - death < _DEATHS_WINDOW] + [now]
                if len(self._deaths) > _MAX_DEATHS:
                    return 1
                try:
                    self._start()
                except StartFailed:
                    return 1

    def _when_unused(self) -> int:
        """A descriptor that becomes readable when no process uses the server any more."""
        reader, writer = os.pipe()
        users = os.open(os.path.join(self._run, "users"), os.O_RDWR | os.O_CREAT, 0o600)

        def wait() -> None:
            fcntl.flock(users, fcntl.LOCK_EX)
            os.write(writer, b".")

        _thread.start_new_thread(wait, ())
        return reader

    def _start(self) -> None:
        """Start the server and wait until it takes connections; a recovery may take as long as it needs."""
        deadline = time.monotonic() + _STRAGGLERS_PATIENCE
        while True:
            for stale in ("postmaster.pid", ".s.PGSQL.5432.lock"):  # its writer is known to be gone
                _remove(os.path.join(self._data, stale))
            log, log_start = _open_log(os.path.join(self._run, "postgres.log"))
            self._pid = self._spawn(log)
            os.close(log)
            self._tell_watcher()
            if self._becomes_ready():
                self._record()
                return
            said = _tail(os.path.join(self._run, "postgres.log"), log_start)
            if "is still in use" not in said or time.monotonic() > deadline:
                raise StartFailed(said or "the server ended without a word")
            time.sleep(0.05)

    def _becomes_ready(self) -> bool:
        while not self._has_died():
            # The eighth line says what pg_ctl waits for; reading it is quicker than connecting.
            lines = _read(os.path.join(self._data, "postmaster.pid")).split("\n")
            if len(lines) > 7 and lines[0] == str(self._pid) and lines[7].strip() == "ready":
                return True
            time.sleep(0.004)
        return False

    def _spawn(self, log: int) -> int:
        keeper = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            self._become_server(keeper, log)
        except BaseException as error:  # a copy of the keeper must not go on as a second keeper
            os.write(log, f"cannot start the server: {error!r}\n".encode())
        finally:
            os._exit(127)

    def _become_server(self, keeper: int, log: int) -> NoReturn:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        devnull = os.open(os.devnull, os.O_RDONLY)
        os.dup2(devnull, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir("/")
        folder = self._data
        if (account := self._job["account"]) is not None:
            os.set_inheritable(self._data_fd, True)  # the account may not walk to the folder, so it gets it open
            folder = f"/proc/self/fd/{self._data_fd}"
            os.setgroups([])
            os.setgid(account[1])
            os.setuid(account[0])
        if self._job["lifeline"] == "prctl":
            # After the change of user, which clears it. The parent may be gone by now.
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != keeper:
                os._exit(0)
        # The socket's folder is relative to the data folder, so length, commas and quotes cannot matter.
        command = [self._job["postgres"], "-D", folder, "-k", self._job["socket"] or "."]
        for name, value in self._job["settings"]:
            command += ["-c", f"{name}={value}"]
        os.execve(command[0], command, self._job["environment"])

    def _has_died(self) -> bool:
        if not self._pid:
            return True
        pid, _ = os.waitpid(self._pid, os.WNOHANG)
        if pid:
            self._pid = 0
            self._tell_watcher()
        return bool(pid)

    def _stop(self) -> None:
        if not self._has_died():
            os.kill(self._pid, signal.SIGINT)
            os.waitpid(self._pid, 0)
            self._pid = 0
            self._tell_watcher()

    def _record(self) -> None:
        """Say how to reach the server, whole or not at all."""
        path = os.path.join(self._run, "state.json")
        said = {
            "pid": self._pid,
            "keeper": os.getpid(),
            "socket": self._job["socket"],
            "version": self._job["version"],
        }
        with open(path + ".new", "w") as file:
            json.dump(said, file)
        os.replace(path + ".new", path)

    def _sweep(self) -> None:
        _remove(os.path.join(self._run, "state.json"))
        if self._job["socket"]:
            for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
                _remove(os.path.join(self._job["socket"], name))
            if os.path.isdir(self._job["socket"]):
                os.rmdir(self._job["socket"])

    def _tell_watcher(self) -> None:
        if self._lifeline >= 0:
            os.write(self._lifeline, b"%d\n" % self._pid)


def _fork_watcher() -> int:
    """Fork a process that stops the server when this one is gone; returns the pipe that tells it which."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(reader)
        return writer
    os.setsid()
    signal.set_wakeup_fd(-1)
    os.closerange(0, reader)  # the locks of the keeper among them: they must end with it
    os.closerange(reader + 1, 256)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = b"0\n"
    while said := os.read(reader, 4096):
        told = said
    pid = int(told.split(b"\n")[-2])
    if pid:
        os.kill(pid, signal.SIGINT)
    os._exit(0)


def _wake_on(*signals: int) -> int:
    """A descriptor that carries the numbers of these signals as bytes."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in signals:
        signal.signal(number, lambda _number, _frame: None)
    return reader


def _open_log(path: str) -> tuple[int, int]:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    size = os.fstat(log).st_size
    if size <= _LOG_LIMIT:
        return log, size
    os.close(log)
    os.replace(path, path + ".1")
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 0


def _tail(path: str, start: int) -> str:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read()[-2000:].decode(errors="replace").strip()


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _report(said: dict[str, Any], code: int) -> int:
    os.write(1, json.dumps(said).encode() + b"\n")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    return code


if __name__ == "__main__":
    sys.exit(Keeper(json.loads(sys.argv[1])).keep())
