"""Who runs the server. PostgreSQL refuses to run as root, so root lends it an account that can do little.

As root the server runs as the owner of an existing data folder, else as `postgres` or `nobody`. No parent
folder is opened for that account: it receives the data folder as an open descriptor (see `keeper`). The
programs cannot be handed over like that, because PostgreSQL insists on resolving its own path. So when the
account cannot reach them (a virtual environment under /root), they are copied once to a folder that root
owns and everyone may read.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heddle_cli.postgres.binaries import Binaries
from heddle_server.config import StartError

_log = logging.getLogger(__name__)

_NAMES = ("postgres", "nobody")
SHELVES = (Path("/var/lib/heddle"), Path("/opt/heddle"))
_UNUSED = shutil.ignore_patterns("include", "*.a", "doc", "man", "pgxs", "__pycache__")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A system account that the server runs as, in root's stead."""

    name: str
    uid: int
    gid: int


def choose(data: Path) -> Account | None:
    """The account to run the server of `data` with, or None for the caller's own."""
    uid = os.geteuid()
    owner = data.stat().st_uid if data.exists() else None
    if uid != 0:
        _require_name(uid)
        if owner is not None and owner != uid:
            raise StartError(
                f"the database folder {data} belongs to {_name_of(owner)}, and you are {_name_of(uid)}",
                fix=f"run as {_name_of(owner)}, or set HEDDLE_DATA_DIR to a folder of yours",
            )
        return None
    if not sys.platform.startswith("linux"):
        raise StartError(
            "the embedded PostgreSQL does not run as root on this platform",
            fix="run as an ordinary user, or set DATABASE_URL to a database of yours",
        )
    if owner:
        _require_name(owner)
        entry = pwd.getpwuid(owner)
        return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
    for name in _NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise StartError(
        f"PostgreSQL refuses to run as root, and there is no account {' or '.join(_NAMES)} to run it with",
        fix="add one (useradd --system postgres), run as an ordinary user, or set DATABASE_URL",
    )


def within_reach(binaries: Binaries, account: Account | None, shelves: Sequence[Path] = SHELVES) -> Binaries:
    """`binaries`, or a copy of them that the account can run."""
    if account is None or _can_run(binaries.postgres, account):
        return binaries
    problem = "no place to keep it"
    for shelf in shelves:
        try:
            folder = _shelve(binaries, shelf)
        except OSError as error:
            problem = str(error)
            continue
        copy = replace(binaries, folder=folder)
        if _can_run(copy.postgres, account):
            return copy
        problem = f"{account.name} cannot run {copy.postgres}"
    raise StartError(
        f"running as root, PostgreSQL must run as {account.name}, who cannot reach {binaries.folder}; "
        f"copying it to one of {', '.join(map(str, shelves))} failed: {problem}",
        fix="run as an ordinary user, move the project out of a private folder, or set DATABASE_URL",
    )


def _shelve(binaries: Binaries, shelf: Path) -> Path:
    """Copy the installation to `shelf`, whole or not at all, and return its bin folder. Done once."""
    prefix = binaries.folder.parent
    stamp = binaries.postgres.stat()
    key = hashlib.sha256(f"{prefix}\0{stamp.st_size}\0{stamp.st_mtime_ns}".encode()).hexdigest()[:12]
    home = shelf / f"postgresql-{binaries.version}-{key}"
    inside = home / prefix.parent.name / prefix.name
    if home.exists():
        owner = home.stat()
        if owner.st_uid != 0 or owner.st_mode & 0o022:
            raise PermissionError(f"{home} is not root's own")
        return inside / "bin"
    shelf.mkdir(mode=0o755, parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".copying-", dir=shelf))
    try:
        shutil.copytree(prefix, building / prefix.parent.name / prefix.name, symlinks=True, ignore=_UNUSED)
        libraries = prefix.parent.with_name(prefix.parent.name + ".libs")  # where a wheel keeps its shared libraries
        if libraries.is_dir():
            shutil.copytree(libraries, building / libraries.name, symlinks=True)
        for path in (building, *building.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        building.rename(home)
    except OSError:
        shutil.rmtree(building, ignore_errors=True)
        if not home.exists():  # else another process was quicker, and its copy is as good
            raise
    _log.info("postgres_programs_copied", extra={"source": str(prefix), "copy": str(home)})
    return inside / "bin"


def _can_run(program: Path, account: Account) -> bool:
    try:
        answer = subprocess.run(
            [program, "--version"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            capture_output=True,
            cwd="/",
            env={"LANG": "C"},
            check=False,
        )
    except PermissionError as error:
        if str(error.filename) != str(program):  # the change of user itself was refused
            raise StartError(
                f"this root may not become another user ({error}), and PostgreSQL refuses to run as root",
                fix="run as an ordinary user, allow CAP_SETUID and CAP_SETGID, or set DATABASE_URL",
            ) from error
        return False
    return answer.returncode == 0


def _require_name(uid: int) -> None:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise StartError(
            f"user id {uid} has no entry in /etc/passwd, which PostgreSQL needs",
            fix="run as a user that has one (in a container: add it to the image), or set DATABASE_URL",
        ) from None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"
