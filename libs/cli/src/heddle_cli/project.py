"""What every command needs first: the project file, the environment over it, and its database."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from heddle_cli.postgres import EmbeddedPostgres, Running
from heddle_server import environment
from heddle_server.config import ProjectConfig, StartError
from heddle_server.dsn import Dsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project as a command sees it. `database` is None when the embedded one is to be used."""

    config: ProjectConfig
    environ: Mapping[str, str]
    data_dir: Path
    database: Dsn | None

    @property
    def cluster(self) -> Path:
        """The folder of the embedded database."""
        return self.data_dir / "pg"

    @property
    def host(self) -> str:
        return self.environ.get("HOST") or "127.0.0.1"

    @property
    def port(self) -> int:
        text = self.environ.get("PORT") or "2024"
        if not text.isascii() or not text.isdecimal() or int(text) > 65535:
            raise StartError(
                f"PORT is not a port number: {text!r}", fix="set it to a number from 0 to 65535, or unset it"
            )
        return int(text)


def open_project(config: Path | None) -> Project:
    """Read the project. Raises StartError when its file, or what the environment says, is wrong."""
    loaded = ProjectConfig.load(config)
    environ = environment.merged(loaded)
    return Project(
        config=loaded,
        environ=environ,
        data_dir=environment.data_dir(loaded, environ),
        database=environment.database(environ),
    )


def make_data_dir(project: Project) -> None:
    """Make the data folder, private to its owner, if it is not there."""
    try:
        project.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"cannot make the data folder {project.data_dir}: {error.strerror}",
            fix="set HEDDLE_DATA_DIR to a folder you can write",
        ) from error


def start_database(project: Project) -> Running | None:
    """Start or share the embedded database, or nothing when the project has another."""
    make_data_dir(project)
    return EmbeddedPostgres.start(project.cluster) if project.database is None else None


def variables(project: Project, running: Running | None) -> dict[str, str]:
    """What a server process and its graphs must find in their environment."""
    dsn = project.database or (running.address() if running else None)
    assert dsn is not None
    return {"DATABASE_URL": dsn.libpq_url(), "HEDDLE_DATA_DIR": str(project.data_dir)}


@contextmanager
def database(project: Project) -> Iterator[Dsn]:
    """The project's database for as long as the block lasts."""
    running = start_database(project)
    try:
        yield project.database or running.address()  # type: ignore[union-attr]
    finally:
        if running is not None:
            running.stop()


def config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="an agent.json or langgraph.json (default: the one in this folder)",
    )


def address_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="ADDRESS", help="the address to listen on (default: HOST, else 127.0.0.1)")
    parser.add_argument("--port", type=_port, metavar="NUMBER", help="the port to listen on (default: PORT, else 2024)")
    parser.add_argument(
        "--allow-unauthenticated",
        action="store_true",
        help="listen on an address that other machines reach, although nothing asks them who they are",
    )
    parser.add_argument("--role", metavar="ROLE", help=argparse.SUPPRESS)


def refuse_roles(options: argparse.Namespace) -> None:
    if options.role is not None:
        raise StartError(
            "--role: split roles need Redis and come with it; this version runs the API and its runs in one process",
            fix="leave --role out; start several `heddle serve` on one DATABASE_URL for more room",
        )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 65535")
    return int(text)


def own_environment(values: Mapping[str, str]) -> None:
    """Set variables in this process, for graphs that read them."""
    os.environ.update(values)
