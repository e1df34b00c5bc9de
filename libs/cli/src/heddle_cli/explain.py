"""From an exception of the start to a message that names the fix."""

from __future__ import annotations

from collections.abc import Iterator

from heddle_server.config import StartError
from heddle_server.dsn import Dsn

_LOGIN = {"InvalidPasswordError", "InvalidAuthorizationSpecificationError"}
_UNREACHABLE = (ConnectionError, TimeoutError, OSError)


def explain(error: BaseException, database: Dsn | None) -> StartError:
    """What the user should know about a failed start. Details are for LOG_LEVEL=DEBUG."""
    for cause in _causes(error):
        if isinstance(cause, StartError):
            return cause
    for cause in _causes(error):
        if (own := _own_words(cause)) is not None:
            return own
    for cause in _causes(error):
        if (known := explain_database(cause, database)) is not None:
            return known
    told = next((cause for cause in _causes(error) if str(cause)), error)  # the outermost may only wrap the others
    return StartError(
        f"the server could not start: {type(told).__name__}: {told}".rstrip(": "),
        fix="LOG_LEVEL=DEBUG shows where this comes from",
    )


def explain_database(error: BaseException, database: Dsn | None) -> StartError | None:
    """The message for a database that cannot be used, or None when `error` is something else."""
    where = database.redacted() if database else "the database"
    kind = type(error).__name__
    from_driver = type(error).__module__.partition(".")[0] in ("asyncpg", "sqlalchemy")
    if from_driver and kind in _LOGIN:
        return StartError(
            f"{where} refuses this user or password: {error}",
            fix="correct the user and password in DATABASE_URL",
        )
    if from_driver and kind == "InvalidCatalogNameError":
        name = database.database if database else "heddle"
        return StartError(
            f"the server answers, but there is no database at {where}",
            fix=f'make it: CREATE DATABASE "{name}"; or correct the name in DATABASE_URL',
        )
    if from_driver and kind == "TooManyConnectionsError":
        return StartError(
            f"{where} has no connection left",
            fix="raise max_connections, or lower LANGGRAPH_POSTGRES_POOL_MAX_SIZE",
        )
    if from_driver and kind in ("CannotConnectNowError", "ConnectionDoesNotExistError"):
        return StartError(f"{where} does not take connections now: {error}", fix="wait until it is up, and start again")
    if from_driver and kind == "InsufficientPrivilegeError":
        return StartError(
            f"the user of {where} may not do what is needed: {error}",
            fix="make it the owner of the database: ALTER DATABASE ... OWNER TO ...",
        )
    if isinstance(error, _UNREACHABLE) and not isinstance(error, FileExistsError | PermissionError | IsADirectoryError):
        return StartError(
            f"cannot reach {where}: {error or kind}",
            fix="start that database or correct DATABASE_URL; unset it to use the embedded one",
        )
    return None


def _own_words(error: BaseException) -> StartError | None:
    """An error of our own floors says what is wrong and then, after the last of these marks, what to do."""
    if type(error).__module__.partition(".")[0] not in ("heddle_core", "heddle_server"):
        return None
    text = str(error)
    for mark in (". To fix it: ", "; ", ": "):
        message, found, fix = text.rpartition(mark)
        if found:
            return StartError(message, fix=fix.rstrip("."))
    return StartError(text, fix="LOG_LEVEL=DEBUG shows where this comes from")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from _causes(inner)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
