"""One transaction with its repositories."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from heddle_core.ports.signals import Signal
from heddle_server.storage.assistants import AssistantRows
from heddle_server.storage.items import ItemRows
from heddle_server.storage.migrate import expected_heads
from heddle_server.storage.runs import RunRows
from heddle_server.storage.sessions import autocommit, check_schema, transaction
from heddle_server.storage.threads import ThreadRows


class PostgresUnitOfWork:
    """Repositories on one connection, inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @cached_property
    def threads(self) -> ThreadRows:
        return ThreadRows(self._connection)

    @cached_property
    def runs(self) -> RunRows:
        return RunRows(self._connection)

    @cached_property
    def assistants(self) -> AssistantRows:
        return AssistantRows(self._connection)

    @cached_property
    def items(self) -> ItemRows:
        return ItemRows(self._connection)

    async def ring(self, signal: Signal) -> None:
        payload = signal.kind if signal.run_id is None else f"{signal.kind} {signal.run_id}"
        await self._connection.execute(text("SELECT pg_notify('heddle', :payload)"), {"payload": payload})


class PostgresStorage:
    """Opens units of work on a SQLAlchemy engine. Read committed; commits when the block ends well.

    A database that is away, or goes away in the middle, is `Unavailable`; then nothing was committed, except perhaps
    when it went away during the commit itself.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[PostgresUnitOfWork]:
        async with transaction(self._engine) as connection:
            yield PostgresUnitOfWork(connection)

    @asynccontextmanager
    async def single(self) -> AsyncIterator[PostgresUnitOfWork]:
        async with autocommit(self._single) as connection:
            yield PostgresUnitOfWork(connection)

    @cached_property
    def _heads(self) -> frozenset[str]:
        return expected_heads()

    async def check(self) -> None:
        await check_schema(self._engine, self._heads)
