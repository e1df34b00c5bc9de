"""The part of `migrate.py` that needs alembic, which takes long to load. The caller holds the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from heddle_server.storage.migrate import UnknownRevision

if TYPE_CHECKING:
    from heddle_server.storage.migrate import Address

_OURS = "Made by Heddle."
_Steps = Callable[[ScriptDirectory, str, Any], Iterable[Any]]


async def upgrade(dsn: Address, folder: Path, guests: Sequence[Path], revision: str) -> None:
    await _run(dsn, folder, guests, revision, _up)


async def downgrade(dsn: Address, folder: Path, guests: Sequence[Path], revision: str) -> None:
    await _run(dsn, folder, guests, revision, _down)


async def _run(dsn: Address, folder: Path, guests: Sequence[Path], revision: str, steps: _Steps) -> None:
    engine = create_async_engine(
        dsn.sqlalchemy_url(),
        poolclass=NullPool,
        connect_args={"statement_cache_size": 0, "prepared_statement_cache_size": 0},
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_work, _config(folder, guests), revision, steps)
    finally:
        await engine.dispose()


def _config(folder: Path, guests: Sequence[Path]) -> Config:
    config = Config()
    locations = (folder / "versions", *guests)
    # Values are interpolated (`%`), and paths may hold any character but a line break.
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(str(path) for path in locations).replace("%", "%%"))
    return config


def _work(connection: Connection, config: Config, revision: str, steps: _Steps) -> None:
    script = ScriptDirectory.from_config(config)
    known = {one.revision for one in script.walk_revisions()}
    _make_schema(connection)
    config.attributes["connection"] = connection

    def plan(stamps: Any, context: Any) -> Iterable[Any]:
        # Rows of graph packages that are not loaded would be unknown to alembic: it never sees them.
        return steps(script, revision, tuple(stamp for stamp in stamps if stamp in known))

    try:
        with EnvironmentContext(config, script, fn=plan, destination_rev=revision):
            script.run_env()
    except CommandError as error:
        raise UnknownRevision(f"{error}; `heddle migrate history` lists the revisions there are") from error
    connection.rollback()
    _drop_empty_schema(connection)


def _up(script: ScriptDirectory, revision: str, stamps: Any) -> Iterable[Any]:
    # What `alembic.command.upgrade` does; the command itself takes no filter for the stamps.
    return script._upgrade_revs(revision, stamps)


def _down(script: ScriptDirectory, revision: str, stamps: Any) -> Iterable[Any]:
    return script._downgrade_revs(revision, stamps)


def _make_schema(connection: Connection) -> None:
    if connection.scalar(text("SELECT to_regnamespace('heddle') IS NULL")):
        connection.execute(text("CREATE SCHEMA heddle"))
        connection.execute(text(f"COMMENT ON SCHEMA heddle IS '{_OURS}'"))
    connection.commit()


def _drop_empty_schema(connection: Connection) -> None:
    """After the last version is gone, nothing of ours stays; a schema that somebody else made does."""
    if connection.scalar(text("SELECT EXISTS (SELECT FROM heddle.alembic_version)")):
        connection.rollback()
        return
    connection.execute(text("DROP TABLE heddle.alembic_version"))
    made_here = text("SELECT obj_description(to_regnamespace('heddle'), 'pg_namespace') = :ours")
    empty = text(
        "SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'heddle'::regnamespace)"
        " AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'heddle'::regnamespace)"
    )
    if connection.scalar(made_here, {"ours": _OURS}) and connection.scalar(empty):
        connection.execute(text("DROP SCHEMA heddle"))
    connection.commit()
