"""A small asyncpg pool for each event loop that runs graphs.

A pool belongs to the loop it was made on, and graphs may run on a loop of their own, so pools are kept
per loop and address. Nobody tells a graph when its server stops. The pool is therefore held by an async
generator started on that loop: ending a loop the usual way (`asyncio.run`, `loop.shutdown_asyncgens`)
finishes the generator, which closes the pool. A loop that was closed without it is noticed at the next
call, and idle connections leave by themselves after a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from heddle_kit.database.port import DatabaseFault, database_url

MAX_CONNECTIONS = 3
CONNECT_SECONDS = 10.0
ACQUIRE_SECONDS = 30.0
STATEMENT_SECONDS = 30.0
IDLE_SECONDS = 60.0

_Key = tuple[asyncio.AbstractEventLoop, str]
_open: dict[_Key, tuple[asyncpg.Pool, AsyncGenerator[None, None]]] = {}


@asynccontextmanager
async def connection(url: str | None = None) -> AsyncIterator[PoolConnectionProxy]:
    """A connection for the length of the block; DatabaseFault when none can be had in time.

    Only getting the connection is guarded here: what happens to statements inside is the caller's to handle.
    """
    pool = await _pool(url or database_url())
    try:
        conn = await pool.acquire(timeout=ACQUIRE_SECONDS)
    except TimeoutError as fault:
        raise DatabaseFault("the database did not answer in time, or all connections are busy") from fault
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as fault:
        raise DatabaseFault(f"the database cannot be reached ({type(fault).__name__})") from fault
    try:
        yield conn
    finally:
        # A connection that died is thrown away by the pool; releasing it is still right.
        await asyncio.shield(pool.release(conn, timeout=CONNECT_SECONDS))


async def _pool(url: str) -> asyncpg.Pool:
    loop = asyncio.get_running_loop()
    for key in [key for key in _open if key[0].is_closed()]:
        _open.pop(key)[0].terminate()
    key = (loop, url)
    if key not in _open:
        try:
            # With no minimum, making the pool opens no connection and so never waits.
            pool = asyncpg.create_pool(
                url,
                min_size=0,
                max_size=MAX_CONNECTIONS,
                timeout=CONNECT_SECONDS,
                command_timeout=STATEMENT_SECONDS,
                max_inactive_connection_lifetime=IDLE_SECONDS,
                server_settings={"application_name": "heddle-graph"},
            )
        except (ValueError, asyncpg.InterfaceError) as fault:
            raise DatabaseFault("DATABASE_URL is not an address asyncpg understands") from fault
        keeper = _keep(key, pool)
        _open[key] = (pool, keeper)
        await anext(keeper)
    return _open[key][0]


async def _keep(key: _Key, pool: asyncpg.Pool) -> AsyncGenerator[None, None]:
    try:
        await pool
        yield
    finally:
        _open.pop(key, None)
        pool.terminate()
