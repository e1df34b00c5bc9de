"""What `doctor` looks at. Each check answers with findings and never raises."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from heddle_cli import network
from heddle_cli.banner import describe_database
from heddle_cli.explain import explain
from heddle_cli.project import Project, open_project, start_database
from heddle_server.config import StartError
from heddle_server.dsn import Dsn

SUPPORTED_SERVERS = range(15, 19)
_LITTLE_SPACE = 1024**3


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"  # worth knowing
    WARNING = "warning"  # works, but not as one would want
    ERROR = "error"  # keeps the server from starting


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    level: Level
    subject: str
    message: str
    fix: str = ""


def examine(config: Path | None) -> Iterator[Finding]:
    """All findings, from the ground up. Stops after the project file if that is wrong: all else depends on it."""
    yield _ok("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _git()
    try:
        project = open_project(config)
    except StartError as error:
        yield _error("project", error)
        return
    yield _ok("project", str(project.config.path))
    for warning in project.config.warnings:
        yield Finding(level=Level.WARNING, subject="project", message=warning, fix="correct or remove the key")
    yield _settings(project)
    yield from _data_dir(project)
    yield from _database(project)
    yield from _graphs(project)
    yield _port(project)
    yield _keys(project)


def _git() -> Finding:
    git = shutil.which("git")
    if git is None:
        return Finding(
            level=Level.ERROR,
            subject="git",
            message="there is no git on the PATH",
            fix="install it (Debian: apt-get install git, macOS: xcode-select --install)",
        )
    seen = subprocess.run([git, "--version"], capture_output=True, text=True, check=False)
    if seen.returncode:
        return Finding(
            level=Level.ERROR,
            subject="git",
            message=f"{git} does not run: {seen.stderr.strip()}",
            fix="install it again",
        )
    return _ok("git", seen.stdout.strip())


def _settings(project: Project) -> Finding:
    from heddle_server.settings import Settings

    try:
        settings = Settings.load(project.config)
    except StartError as error:
        return _error("settings", error)
    return _ok("settings", f"{settings.environment}, {settings.jobs_per_worker} runs at a time")


def _data_dir(project: Project) -> Iterator[Finding]:
    folder = project.data_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            level=Level.ERROR,
            subject="data",
            message=f"{existing} cannot be written",
            fix="set HEDDLE_DATA_DIR to a folder you can write",
        )
        return
    if folder.exists() and (mode := stat.S_IMODE(folder.stat().st_mode)) & 0o077:
        yield Finding(
            level=Level.WARNING,
            subject="data",
            message=f"{folder} is open to other users (mode {mode:o})",
            fix=f"chmod 700 '{folder}'",
        )
        return
    free = shutil.disk_usage(existing).free
    if free < _LITTLE_SPACE:
        yield Finding(
            level=Level.WARNING,
            subject="data",
            message=f"{folder}: {free // 1024**2} MiB free",
            fix="make room on that disk",
        )
        return
    yield _ok("data", f"{folder}, {free // 1024**3} GiB free")


def _database(project: Project) -> Iterator[Finding]:
    try:
        running = start_database(project)
    except StartError as error:
        yield _error("database", error)
        return
    try:
        dsn = project.database or (running.address() if running else Dsn())
        try:
            version, vector = asyncio.run(_ask(dsn))
        except Exception as error:  # the driver and the network may raise anything
            yield _error("database", explain(error, dsn))
            return
        yield _describe_server(version, describe_database(project, running))
        if not vector:
            yield Finding(
                level=Level.NOTE,
                subject="database",
                message="pgvector is not installed there: vector search will not be possible",
                fix="install the extension pgvector on that server",
            )
        yield _migrations(project, dsn)
    finally:
        if running is not None:
            running.stop()


async def _ask(dsn: Dsn) -> tuple[int, bool]:
    import asyncpg

    connection = await asyncpg.connect(**{"timeout": 10, **dsn.asyncpg_kwargs()})
    try:
        version = await connection.fetchval("SELECT current_setting('server_version_num')::int / 10000")
        vector = await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
        return int(version), bool(vector)
    finally:
        await connection.close()


def _describe_server(version: int, where: str) -> Finding:
    if version not in SUPPORTED_SERVERS:
        return Finding(
            level=Level.ERROR,
            subject="database",
            message=f"{where} is PostgreSQL {version}",
            fix="use PostgreSQL 15 to 18, or unset DATABASE_URL to use the embedded one",
        )
    return _ok("database", where if str(version) in where else f"{where} (PostgreSQL {version})")


def _migrations(project: Project, dsn: Dsn) -> Finding:
    from heddle_server.storage import migrate

    guests = project.config.guest_migrations
    try:
        at = asyncio.run(_revisions(dsn, guests))
        if not at:
            return Finding(
                level=Level.NOTE,
                subject="migrations",
                message="the database is empty",
                fix="none needed: the first start fills it",
            )
        asyncio.run(migrate.check(dsn, guests))
    except migrate.MigrationsPending as error:
        return Finding(
            level=Level.NOTE,
            subject="migrations",
            message=str(error),
            fix="none needed: the next start applies them",
        )
    except Exception as error:
        return _error("migrations", explain(error, dsn))
    return _ok("migrations", f"at {', '.join(at)}")


async def _revisions(dsn: Dsn, guests: Sequence[Path]) -> tuple[str, ...]:
    from heddle_server.storage import migrate

    return tuple(await migrate.current(dsn, guests))


def _graphs(project: Project) -> Iterator[Finding]:
    from langgraph.checkpoint.memory import InMemorySaver

    from heddle_server import environment
    from heddle_server.graphs.loader import GraphLoader
    from heddle_server.graphs.sources import GraphSpec

    environment.export(project.config)
    config = project.config
    specs = [GraphSpec(graph_id=entry.graph_id, path=entry.source) for entry in config.graphs.values()]
    loader = GraphLoader(
        specs,
        config.root,
        dependencies=[str(path) for path in config.import_paths],
        checkpointer=InMemorySaver(),
    )
    for graph_id in config.graphs:
        try:
            loader.load(graph_id)
        except Exception as error:  # a graph's module may raise anything
            yield _error(f"graph {graph_id}", explain(error, None))
        else:
            yield _ok(f"graph {graph_id}", "loads")


def _port(project: Project) -> Finding:
    try:
        network.listen(project.host, project.port).close()
    except StartError as error:
        return Finding(level=Level.WARNING, subject="port", message=error.message, fix=error.fix)
    return _ok("port", f"{project.port} on {project.host} is free")


def _keys(project: Project) -> Finding:
    environ = project.environ
    if environ.get("OPENAI_API_KEY") or environ.get("OPENAI_API_BASE"):
        return _ok("keys", "a language model is configured")
    return Finding(
        level=Level.NOTE,
        subject="keys",
        message="no language model is configured: dag_author plans by its own rules",
        fix="to use a model set OPENAI_API_KEY, or OPENAI_API_BASE for one of your own",
    )


def _ok(subject: str, message: str) -> Finding:
    return Finding(level=Level.OK, subject=subject, message=message)


def _error(subject: str, error: StartError) -> Finding:
    return Finding(level=Level.ERROR, subject=subject, message=error.message, fix=error.fix)
