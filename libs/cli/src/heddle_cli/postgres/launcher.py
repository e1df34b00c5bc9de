"""Start and share the embedded PostgreSQL.

Any number of processes may use one data folder at a time; the server ends with the last of them. The rule,
with the files of `<data>.run/` beside the data folder (all of them locked with flock, which the kernel
undoes when a process ends, however it ends):

* `start`  held exclusively while a process finds out whether a server runs, and starts one if none does.
* `users`  held shared by each process that uses the server, for as long as it does.
* `keeper` held exclusively by the keeper, the small process that owns the server (see `keeper`).

So nobody counts users, nobody believes a number in a pid file, and no process that dies can take a server
with it that others use: the keeper lives until it gets `users` for itself. If the keeper is killed the server
stops too; `Running.ensure` notices and starts both again. A leaver that was the last waits until the server is
down, so that after `stop` the folder may be copied, moved or removed.

Measured on two cores: 0.5 s for the first start of a folder, 50 ms for the next ones, 2 ms to share.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from heddle_cli.postgres import account as accounts
from heddle_cli.postgres import binaries as programs
from heddle_cli.postgres import cluster, strays
from heddle_server.config import StartError
from heddle_server.dsn import Dsn

_log = logging.getLogger(__name__)

Lifeline = Literal["prctl", "pipe"]
_KEEPER = Path(__file__).with_name("keeper.py")
_SOCKET = f".s.PGSQL.{cluster.PORT}"
_SOCKET_LIMIT = 103  # bytes: 107 on Linux, 103 on macOS
_PATIENCE = 120.0
_NEWS_AFTER = 5.0


class Running:
    """A use of the embedded server: it stays up at least until `stop`. Leaving twice is harmless."""

    def __init__(
        self, data: Path, *, fast_unsafe: bool, lifeline: Lifeline, binaries: programs.Binaries | None
    ) -> None:
        self.data = data
        self.owned = False
        self.version = 0
        self._fast_unsafe = fast_unsafe
        self._lifeline = lifeline
        self._binaries = binaries
        self._run = data.with_name(data.name + ".run")
        self._users = -1
        self._socket = data
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str = cluster.DATABASE) -> str:
        """A URL that asyncpg, psycopg and psql take, whatever PG* variables are set."""
        return self.address(database).libpq_url()

    def address(self, database: str = cluster.DATABASE) -> Dsn:
        return Dsn(host=str(self._socket), port=cluster.PORT, user="postgres", database=database)

    def is_up(self) -> bool:
        """True while a keeper looks after the server. Cheap enough to ask every second."""
        return _is_held(self._run / "keeper")

    def ensure(self) -> bool:
        """Start the server again if its keeper is gone; True if that was needed. The address stays the same,
        unless the path is too long for a socket."""
        if self._users < 0 or self.is_up():
            return False
        self._enter()
        return True

    def stop(self) -> None:
        """Stop using the server; if nobody else does, wait until it is down."""
        if self._users < 0:
            return
        users, self._users = self._users, -1
        gate = _open(self._run / "start")
        try:
            # One leaver at a time, or two that leave together would each take the other for a user. A gate that
            # stays shut belongs to somebody who starts, and who is a user.
            _try_for(gate, fcntl.LOCK_EX, 2.0)
            last = _was_last(users, self._run / "users")
            fcntl.flock(gate, fcntl.LOCK_UN)
            if last:
                _wait(lambda: not self.is_up(), f"the embedded PostgreSQL in {self.data} does not stop")
        finally:
            os.close(gate)
            os.close(users)
        if self._process is not None and not self.is_up():
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _enter(self) -> None:
        _make_folders(self.data, self._run)
        gate = _open(self._run / "start")
        try:
            _lock(
                gate,
                fcntl.LOCK_EX,
                f"another process takes too long to start the database in {self.data}",
            )
            users = self._users if self._users >= 0 else _open(self._run / "users")
            try:
                # Refused only while a keeper stops its server: it holds this lock to its end.
                _lock(users, fcntl.LOCK_SH, f"the embedded PostgreSQL in {self.data} does not stop")
                if not self.is_up():
                    self._start()
                self._read_state()
            except BaseException:
                if self._users < 0:
                    os.close(users)
                raise
            self._users = users
        finally:
            os.close(gate)

    def _start(self) -> None:
        strays.clear(self.data, self._run)
        found = self._binaries or programs.find()
        account = accounts.choose(self.data)
        found = accounts.within_reach(found, account)
        cluster.prepare(self.data, found, account, fast_unsafe=self._fast_unsafe)
        job = {
            "postgres": str(found.postgres),
            "version": found.version,
            "data": str(self.data),
            "run": str(self._run),
            "socket": _private_socket_folder(self.data, account),
            "account": None if account is None else (account.uid, account.gid),
            "settings": cluster.settings(found.version, fast_unsafe=self._fast_unsafe),
            "environment": cluster.environment(),
            "lifeline": self._lifeline,
        }
        if self._process is not None:
            self._process.wait()  # the one before, which is gone
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-W", "ignore", str(_KEEPER), json.dumps(job)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env=cluster.environment(),
        )
        self._hear(self._process)
        self.owned = True
        if account is not None:
            _log.info("postgres_runs_as", extra={"account": account.name, "folder": str(self.data)})

    def _hear(self, keeper: subprocess.Popen[bytes]) -> None:
        """Wait for the keeper's word. A recovery after a crash may take long; the log line says what is going on."""
        assert keeper.stdout is not None
        with keeper.stdout as said:
            while not select.select([said], [], [], _NEWS_AFTER)[0]:
                _log.warning("postgres_is_still_starting", extra={"log": str(self._run / "postgres.log")})
            line = said.read()
        try:
            answer = json.loads(line.splitlines()[0]) if line else {}
        except ValueError:
            answer = {"error": line.decode(errors="replace")}
        if not answer.get("ready"):
            keeper.wait()
            reason = answer.get("error", "the process that starts it ended")
            raise StartError(
                f"the embedded PostgreSQL in {self.data} did not start: {reason}",
                fix=f"read {self._run / 'postgres.log'}; or set DATABASE_URL to a database of yours",
            )

    def _read_state(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while (state := strays.read_state(self._run)) is None:
            if not self.is_up() or time.monotonic() > deadline:
                raise StartError(
                    f"the embedded PostgreSQL in {self.data} went away while it was being used",
                    fix=f"start again; the reason is in {self._run / 'postgres.log'}",
                )
            time.sleep(0.01)
        self.version = state.version
        self._socket = Path(state.socket) if state.socket else self.data


class EmbeddedPostgres:
    """The PostgreSQL server that comes with Heddle."""

    @staticmethod
    def start(
        data: Path,
        *,
        fast_unsafe: bool = False,
        lifeline: Lifeline | None = None,
        binaries: programs.Binaries | None = None,
    ) -> Running:
        """Use the server of the folder `data`: make the folder, start the server, or share a running one.

        `fast_unsafe` is for tests: a crash of the server or of the machine loses data. `lifeline` says how the
        server learns that its keeper was killed, `binaries` which programs to run; the defaults are the best the
        machine has.
        """
        default: Lifeline = "prctl" if sys.platform.startswith("linux") else "pipe"
        running = Running(data.resolve(), fast_unsafe=fast_unsafe, lifeline=lifeline or default, binaries=binaries)
        running._enter()
        return running


def _make_folders(data: Path, run: Path) -> None:
    try:
        if not data.parent.exists():
            data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"cannot make the data folder {data.parent}: {error.strerror}",
            fix="set HEDDLE_DATA_DIR to a folder you can write, or DATABASE_URL to a database of yours",
        ) from error
    owner = run.stat().st_uid
    if owner != os.geteuid():
        raise StartError(
            f"the database in {data} is in the hands of another user (user id {owner})",
            fix="run as that user, or set HEDDLE_DATA_DIR to a folder of yours",
        )


def _private_socket_folder(data: Path, account: accounts.Account | None) -> str:
    """A short private folder for the socket when the data folder's path cannot be one, else nothing."""
    fits = len(os.fsencode(data / _SOCKET)) <= _SOCKET_LIMIT and "," not in str(data)
    if fits:
        return ""
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) > _SOCKET_LIMIT - 40:
        # The folder that is made in it is new and private.
        base = "/tmp"  # nosec B108
    folder = tempfile.mkdtemp(prefix=strays.SOCKET_FOLDER_PREFIX, dir=base)
    if account is not None:
        shutil.chown(folder, account.uid, account.gid)
    return folder


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(descriptor: int, kind: int, complaint: str) -> None:
    _wait(lambda: _try(descriptor, kind), complaint)


def _try_for(descriptor: int, kind: int, seconds: float) -> bool:
    return _happens(lambda: _try(descriptor, kind), seconds)


def _wait(done: Callable[[], bool], complaint: str) -> None:
    if not _happens(done, _PATIENCE):
        raise StartError(complaint, fix="look for stuck heddle or postgres processes, and end them")


def _happens(what: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _was_last(users: int, path: Path) -> bool:
    """Give up our share of `users`; True if nobody else has one.

    When the exclusive lock is refused, somebody had the file at that moment: another user, who shares it, or
    the keeper, who has it for itself and keeps it until the server is down. A shared lock tells them apart.
    """
    if _try(users, fcntl.LOCK_EX):
        fcntl.flock(users, fcntl.LOCK_UN)
        return True
    fcntl.flock(users, fcntl.LOCK_UN)
    return _is_held(path)


__all__ = ["EmbeddedPostgres", "Lifeline", "Running"]
