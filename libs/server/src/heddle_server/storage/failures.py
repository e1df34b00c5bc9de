"""Which database errors pass by themselves, and what the rest of the server is told about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg

from heddle_core.domain.errors import Unavailable

__all__ = ["is_connection_lost", "is_transient", "place", "unavailable", "unreachable"]

_TRANSIENT = (
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,  # shut down, not yet started, statement timeout
    asyncpg.exceptions.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.exceptions.TransactionRollbackError,  # deadlock, serialization
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # talking to a standby in the middle of a failover
    asyncpg.InternalClientError,  # the connection next to one that was killed
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)


def is_transient(error: BaseException) -> bool:
    """True when the same statement may well succeed in a moment, on this connection or a new one."""
    if isinstance(error, ValueError):  # asyncpg's own DataError is an InterfaceError too: a bad argument stays bad
        return False
    return isinstance(error, _TRANSIENT)


def is_connection_lost(error: BaseException) -> bool:
    """True when the connection is gone, and with it probably every other one to the same server."""
    if isinstance(error, asyncpg.PostgresError):
        return isinstance(error, asyncpg.PostgresConnectionError) or error.sqlstate in ("57P01", "57P02", "57P03")
    return is_transient(error) and not isinstance(error, TimeoutError)


def unavailable(error: BaseException) -> Unavailable:
    """What a caller is told. The database's words go to the log, not to the client."""
    return Unavailable(f"The database is not available ({type(error).__name__}). Try again in a moment.")


def place(connect: Mapping[str, Any]) -> str:
    """Where connection arguments lead, without user or password."""
    host = connect.get("host") or "the default host"
    return f"{host}:{connect.get('port', 5432)}/{connect.get('database') or '(default database)'}"


def unreachable(error: BaseException, connect: Mapping[str, Any]) -> Unavailable:
    """The message for a start that found no database: where it looked, what was said, and what to do."""
    match error:
        case asyncpg.InvalidCatalogNameError():
            hint = "create the database, or name another in DATABASE_URL"
        case asyncpg.InvalidAuthorizationSpecificationError():
            hint = "check user and password in DATABASE_URL"
        case asyncpg.TooManyConnectionsError():
            hint = "lower LANGGRAPH_POSTGRES_POOL_MAX_SIZE, or raise max_connections of the server"
        case _:
            hint = "start PostgreSQL, correct DATABASE_URL, or unset it to use the embedded database"
    said = str(error) or type(error).__name__
    password = connect.get("password")
    if isinstance(password, str) and password:
        said = said.replace(password, "***")
    return Unavailable(f"cannot use the PostgreSQL database at {place(connect)}: {said}. To fix it: {hint}.")
