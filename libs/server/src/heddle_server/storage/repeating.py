"""Statements on the hot pool that may be sent twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from heddle_server.storage.failures import is_connection_lost, is_transient, unavailable

__all__ = ["fetch", "prepare_to_repeat"]


async def fetch(
    pool: asyncpg.Pool[Any], statement: str, *arguments: Any, again: Sequence[Any] | None = None
) -> list[asyncpg.Record]:
    """Send a statement; once more if its connection broke or the like, then it is `Unavailable`.

    `again` are the arguments of the second try, if it has others.
    """
    try:
        return await pool.fetch(statement, *arguments)
    except Exception as error:
        await prepare_to_repeat(pool, error)
    try:
        return await pool.fetch(statement, *(arguments if again is None else again))
    except Exception as error:
        if not is_transient(error):
            raise
        raise unavailable(error) from error


async def prepare_to_repeat(pool: asyncpg.Pool[Any], error: Exception) -> None:
    """Raise `error` again unless it may pass. After a lost connection the others, which may be as dead, are renewed."""
    if not is_transient(error):
        raise error
    if is_connection_lost(error):
        await pool.expire_connections()
