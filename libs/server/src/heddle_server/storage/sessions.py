"""Transactions on the cold side, with the database's troubles said in our words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from heddle_core.domain.errors import Unavailable
from heddle_server.storage.failures import is_transient, unavailable
from heddle_server.storage.migrate import MigrationsPending

__all__ = ["autocommit", "check_schema", "transaction"]

_ANSWER_SECONDS = 5.0


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection in a transaction that commits when the block ends well.

    Raises `Unavailable` when the database is away, no connection comes free, or a deadlock or the like cost the work.
    """
    connection = await _connect(engine)
    try:
        with _in_our_words():
            async with connection.begin():
                yield connection
    finally:
        # Shielded, so that a cancelled caller still gives its connection back.
        await asyncio.shield(connection.close())


@asynccontextmanager
async def autocommit(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection of an engine in autocommit: each statement is a transaction. Raises as `transaction` does."""
    connection = await _connect(engine)
    try:
        with _in_our_words():
            yield connection
    finally:
        await asyncio.shield(connection.close())


async def check_schema(engine: AsyncEngine, heads: frozenset[str]) -> None:
    """Raise `Unavailable` unless the database answers in time and has these revisions."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS), transaction(engine) as connection:
            rows = await connection.execute(text("SELECT version_num FROM heddle.alembic_version"))
            found = frozenset(rows.scalars())
    except ProgrammingError:  # no such schema, no such table
        found = frozenset()
    except TimeoutError as error:
        raise Unavailable(f"The database did not answer within {_ANSWER_SECONDS:g} seconds.") from error
    if not heads <= found:
        raise MigrationsPending(sorted(found), sorted(heads))


async def _connect(engine: AsyncEngine) -> AsyncConnection:
    """Connect; once more if the first try met a server that is just going away or coming back."""
    with _in_our_words():
        try:
            return await engine.connect()
        except (DBAPIError, OSError) as error:
            if not is_transient(_cause(error)):
                raise
        try:
            return await engine.connect()
        except OSError as error:
            raise unavailable(error) from error


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Unavailable("The server has more work than connections to its database. Try again in a moment.") from error
    except SQLAlchemyError as error:
        if is_transient(cause := _cause(error)):
            raise unavailable(cause) from error
        raise


def _cause(error: BaseException) -> BaseException:
    """asyncpg's own error, inside SQLAlchemy's inside its dialect's."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error
