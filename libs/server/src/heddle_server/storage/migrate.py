"""The database's schema, brought to what this version needs.

Our versions live in `alembic/` at the top of the repository, or `heddle_server/migrations` in an installed wheel. A
graph package may have versions too: a folder of them, a branch of its own. All branches are recorded in
`heddle.alembic_version`. Rows of a branch whose package is not loaded now are left alone.

Any number of processes may call `upgrade` at once: they take turns under an advisory lock. Waiting is done by asking
again, never inside a statement, because an index that another one builds concurrently waits for every statement.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from heddle_core.domain.errors import HeddleError, Unavailable
from heddle_server.storage.failures import unreachable

__all__ = [
    "Address",
    "DatabaseTooNew",
    "MigrationsPending",
    "UnknownRevision",
    "Version",
    "check",
    "current",
    "downgrade",
    "expected_heads",
    "folder",
    "history",
    "upgrade",
]

_LOCK = 0x68656464_6C65  # "heddle"
_LOCK_POLL_SECONDS = 0.1
_NO_SCHEMA = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)


class Address(Protocol):
    """Where a database is, in the forms its two clients take."""

    def asyncpg_kwargs(self) -> dict[str, Any]: ...
    def sqlalchemy_url(self) -> Any: ...


class DatabaseTooNew(HeddleError):
    """The database was migrated by a newer version of Heddle."""

    def __init__(self, found: str, newest: str) -> None:
        super().__init__(
            f"the database is at revision {found}, this version of Heddle knows revisions up to {newest}: "
            "install the newer Heddle again, or use it to run `heddle migrate down` first"
        )
        self.found = found
        self.newest = newest


class MigrationsPending(Unavailable):
    """The database's schema is older than this version of Heddle needs."""

    def __init__(self, found: Sequence[str], wanted: Sequence[str]) -> None:
        super().__init__(
            f"the database is at {', '.join(found) or 'no revision'}, this version of Heddle needs "
            f"{', '.join(wanted)}: run `heddle migrate up`"
        )


class UnknownRevision(HeddleError):
    """There is no such revision, or it belongs to a graph package that is not loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One step of the schema, as its file describes it."""

    revision: str
    down: tuple[str, ...]
    title: str
    folder: Path

    @property
    def family(self) -> str:
        """The branch by its name: `heddle` of `heddle_0001`. A revision of a known family is no stranger's."""
        return self.revision.rpartition("_")[0]


def folder() -> Path:
    """The folder that holds `env.py` and `versions/`."""
    here = Path(__file__).resolve()
    for candidate in (here.parents[1] / "migrations", *(parent / "alembic" for parent in here.parents[4:6])):
        if (candidate / "env.py").is_file():
            return candidate
    raise HeddleError("the folder of migrations is missing from this installation: install heddle-server again")


def history(guests: Sequence[Path] = ()) -> tuple[Version, ...]:
    """Every known version, each branch from its first to its newest."""
    known: list[Version] = []
    for place in (folder() / "versions", *guests):
        files = sorted(place.glob("*.py"))
        if not files and place in guests:
            raise HeddleError(f"there are no migrations in {place}")
        waiting = [_read(file) for file in files if not file.name.startswith("__")]
        done = {version.revision for version in known}
        while waiting:
            ready = [version for version in waiting if done.issuperset(version.down)]
            if not ready:
                raise HeddleError(f"the migrations in {place} follow one that is not there: {waiting[0].down}")
            known += ready
            done |= {version.revision for version in ready}
            waiting = [version for version in waiting if version.revision not in done]
    return tuple(known)


def expected_heads(guests: Sequence[Path] = ()) -> frozenset[str]:
    """The newest revision of every branch."""
    versions = history(guests)
    return frozenset(version.revision for version in versions) - {down for one in versions for down in one.down}


async def upgrade(dsn: Address, guests: Sequence[Path] = (), revision: str = "heads") -> None:
    """Bring the schema to `revision`. When it is there already this is one query, and nothing else is loaded."""
    async with _connected(dsn) as connection:
        if await _is_there(connection, guests, revision):
            return
        async with _turn(connection):
            if not await _is_there(connection, guests, revision):
                # Loading alembic takes longer than a start that has nothing to migrate may take.
                from heddle_server.storage import migration_run

                await migration_run.upgrade(dsn, folder(), guests, revision)


async def downgrade(dsn: Address, revision: str, guests: Sequence[Path] = ()) -> None:
    """Go back to `revision`; `base` removes all that migrations made and leaves what they found."""
    async with _connected(dsn) as connection, _turn(connection):
        strangers = _strangers(await _stamps(connection), history(guests))
        if strangers:
            raise UnknownRevision(
                f"the database has migrations of graph packages that are not loaded ({', '.join(strangers)}): "
                "add those graphs to agent.json first, or they could not be told apart from ours"
            )
        from heddle_server.storage import migration_run

        await migration_run.downgrade(dsn, folder(), guests, revision)


async def current(dsn: Address, guests: Sequence[Path] = ()) -> tuple[str, ...]:
    """The revisions in the database, unknown ones included, in order."""
    async with _connected(dsn) as connection:
        return tuple(sorted(await _stamps(connection)))


async def check(dsn: Address, guests: Sequence[Path] = ()) -> None:
    """Raise `MigrationsPending` or `DatabaseTooNew` unless the database is where this version needs it."""
    async with _connected(dsn) as connection:
        found = await _stamps(connection)
    versions = history(guests)
    _strangers(found, versions)
    wanted = expected_heads(guests)
    if not wanted <= found:
        raise MigrationsPending(sorted(found), sorted(wanted))


async def _is_there(connection: asyncpg.Connection[Any], guests: Sequence[Path], revision: str) -> bool:
    found = await _stamps(connection)
    _strangers(found, history(guests))
    return (expected_heads(guests) if revision == "heads" else {revision}) <= found


async def _stamps(connection: asyncpg.Connection[Any]) -> frozenset[str]:
    try:
        rows = await connection.fetch("SELECT version_num FROM heddle.alembic_version")
    except _NO_SCHEMA:
        return frozenset()
    return frozenset(row["version_num"] for row in rows)


def _strangers(found: frozenset[str], versions: Sequence[Version]) -> tuple[str, ...]:
    """Revisions of branches that are not loaded. Refuses an unknown revision of a branch that is."""
    known = {version.revision for version in versions}
    newest = {version.family: version.revision for version in versions}
    unknown = sorted(found - known)
    for revision in unknown:
        if (family := revision.rpartition("_")[0]) in newest:
            raise DatabaseTooNew(revision, newest[family])
    return tuple(unknown)


@asynccontextmanager
async def _connected(dsn: Address) -> AsyncIterator[asyncpg.Connection[Any]]:
    arguments = dsn.asyncpg_kwargs()
    try:
        # Not prepared under a name, so that a transaction pooler in between does no harm.
        connection = await asyncpg.connect(**{"timeout": 10, **arguments, "statement_cache_size": 0})
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise unreachable(error, arguments) from error
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def _turn(connection: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
        await asyncio.sleep(_LOCK_POLL_SECONDS)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


def _read(file: Path) -> Version:
    """The head of a version file, read without running it: graph packages stay unloaded here."""
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    found: dict[str, object] = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id in ("revision", "down_revision") and value is not None:
            found[target.id] = ast.literal_eval(value)
    revision, down = found.get("revision"), found.get("down_revision")
    if not isinstance(revision, str):
        raise HeddleError(f'{file} is no migration: it has no line `revision = "..."`')
    downs = (down,) if isinstance(down, str) else tuple(down) if isinstance(down, (tuple, list)) else ()
    title = (ast.get_docstring(tree) or revision).strip().splitlines()[0]
    return Version(revision=revision, down=downs, title=title, folder=file.parent)
