"""Connections to Postgres: a small hot pool for the engine's own statements, an engine for all others.

Both share one budget. The hot pool is bare asyncpg without a reset between uses, and every connection of it has run the
hot statements once before it serves (the first run of each costs ten times the later ones). The cold side is a
SQLAlchemy engine; a connection that died while idle is noticed when it is taken, without a question to the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from heddle_server.storage.failures import unreachable
from heddle_server.storage.migrate import Address
from heddle_server.storage.named_sql import statements
from heddle_server.storage.rows import FLUSH_ROWS, Rows

__all__ = ["Database", "HotStatement", "Sizes", "open_database"]

_NIL = UUID(int=0)
_WAIT_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_HOT_SECONDS = 30.0
_COLD_SECONDS = 120.0

HotStatement = tuple[str, tuple[Any, ...]]
"""A statement and arguments with which it does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many connections each side may hold. `of` divides a budget: four hot ones if there is room, the rest cold."""

    hot: int
    cold: int

    @classmethod
    def of(cls, budget: int) -> Sizes:
        hot = max(1, min(4, budget // 2))
        return cls(hot=hot, cold=max(1, budget - hot))


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """`pool` for the run queue, the flusher and the checkpointer; `engine` for units of work."""

    pool: asyncpg.Pool[Any]
    engine: AsyncEngine


@asynccontextmanager
async def open_database(
    dsn: Address,
    *,
    budget: int = 10,
    statement_cache: bool = True,
    application_name: str = "heddle",
    warm: Sequence[HotStatement] = (),
) -> AsyncIterator[Database]:
    """Both pools, closed when the block is left. The schema must be there: `migrate.upgrade` first.

    `statement_cache` off: for a transaction pooler, where the next statement may meet another connection. `warm`: hot
    statements of others. Raises `Unavailable`, saying where it looked and what to do, when there is no answer.
    """
    sizes = Sizes.of(budget)
    pool = await _open_pool(dsn, sizes.hot, statement_cache, application_name, warm)
    engine = _open_engine(dsn, sizes.cold, statement_cache, application_name)
    try:
        yield Database(pool=pool, engine=engine)
    finally:
        await engine.dispose()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await pool.close()
        except TimeoutError:
            pool.terminate()


def _hot_statements() -> list[HotStatement]:
    sql = statements("run_queue.sql")
    nothing = Rows().parameters()
    lease = timedelta()
    alone = (_NIL, _NIL, _NIL, 0, "", "{}", "{}", "enqueue", False, False, False, _NIL, lease, None)
    return [
        (sql["open_run"], alone),
        (sql["open_runs"], ((),) * 14),
        (sql["close_runs"], (*((),) * 11, *nothing)),
        (sql["claim"], ((), lease, False)),
        (sql["heartbeat"], ((), (), lease)),
        (FLUSH_ROWS, ((), (), *nothing)),
        ("SELECT * FROM heddle.latest_checkpoint($1)", ("",)),
    ]


async def _open_pool(
    dsn: Address, size: int, statement_cache: bool, application_name: str, warm: Sequence[HotStatement]
) -> asyncpg.Pool[Any]:
    arguments = dsn.asyncpg_kwargs()
    hot = [*_hot_statements(), *warm]

    async def prepare(connection: asyncpg.Connection[Any]) -> None:
        for statement, values in hot:
            await connection.fetch(statement, *values)

    if not statement_cache:
        arguments["statement_cache_size"] = 0
    arguments["server_settings"] = {
        **arguments.get("server_settings", {}),
        "application_name": application_name,
    }
    try:
        return await asyncpg.create_pool(
            **{"timeout": _CONNECT_SECONDS, "command_timeout": _HOT_SECONDS, **arguments},
            min_size=size,
            max_size=size,
            # A connection stays: its plans are what makes it hot.
            max_queries=2**31,
            max_inactive_connection_lifetime=0,
            init=prepare if statement_cache else None,
            reset=_leave_as_it_is,
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise unreachable(error, arguments) from error


async def _leave_as_it_is(connection: asyncpg.Connection[Any]) -> None:
    """Nothing here changes a session, so there is nothing to reset and no statement to spend on it."""


def _open_engine(dsn: Address, size: int, statement_cache: bool, application_name: str) -> AsyncEngine:
    cache: dict[str, Any] = {}
    if not statement_cache:
        cache = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    settings = dsn.asyncpg_kwargs().get("server_settings", {})
    engine = create_async_engine(
        dsn.sqlalchemy_url(),
        pool_size=size,
        max_overflow=0,
        pool_timeout=_WAIT_SECONDS,
        connect_args={
            "timeout": _CONNECT_SECONDS,
            "command_timeout": _COLD_SECONDS,
            # Searches are planned for the filter they came with: a generic plan is five times as slow for most of them.
            "server_settings": {
                **settings,
                "application_name": application_name,
                "plan_cache_mode": "force_custom_plan",
            },
            **cache,
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_dead)
    return engine


def _refuse_dead(connection: Any, record: Any, proxy: Any) -> None:
    """Makes the pool connect again, once per connection that the server has closed meanwhile."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the server closed this connection")
