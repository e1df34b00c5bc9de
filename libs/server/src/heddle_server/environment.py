"""The few settings that must be known before the server is loaded: which database, which data folder.

The `heddle` command starts the database while the server process is still importing, so these rules live
here, with nothing but the standard library, and `settings` uses them too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from heddle_server.config import ConfigError, ProjectConfig
from heddle_server.dsn import Dsn, InvalidDsn

__all__ = ["DATABASE_NAMES", "DATA_DIR_NAMES", "data_dir", "database", "export", "merged", "one_of"]

DATABASE_NAMES = ("DATABASE_URL", "DATABASE_URI", "POSTGRES_URI")
DATA_DIR_NAMES = ("HEDDLE_DATA_DIR", "WORKDIR")
DEFAULT_DATA_DIR = ".heddle"


def merged(config: ProjectConfig, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The project's `env` under the process's environment: a variable that is really set wins."""
    return {**config.env, **(os.environ if environ is None else environ)}


def export(config: ProjectConfig, environ: MutableMapping[str, str] | None = None) -> None:
    """Give graphs and libraries the project's `env`, without replacing what is already set."""
    target = os.environ if environ is None else environ
    for name, value in config.env.items():
        target.setdefault(name, value)


def one_of(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """The value of a setting with several names. An empty value counts as unset; two that differ are an error."""
    given = {name: environ[name] for name in names if environ.get(name)}
    if len(set(given.values())) > 1:
        raise ConfigError(
            f"{' and '.join(given)} are both set and differ",
            fix=f"keep one of them; {names[0]} is the usual name",
        )
    return next(iter(given.values()), None)


def database(environ: Mapping[str, str]) -> Dsn | None:
    """The database the user chose, or None for the embedded one."""
    text = one_of(environ, DATABASE_NAMES)
    if text is None:
        return None
    try:
        return Dsn.parse(text)
    except InvalidDsn as error:
        raise ConfigError(str(error), fix="correct it, or unset it to use the embedded database") from None


def data_dir(config: ProjectConfig, environ: Mapping[str, str]) -> Path:
    """Where all data lives. A relative path is relative to the project's folder."""
    chosen = one_of(environ, DATA_DIR_NAMES) or DEFAULT_DATA_DIR
    return (config.root / Path(chosen).expanduser()).resolve()
