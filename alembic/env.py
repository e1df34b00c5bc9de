"""Runs migrations on the connection it is handed. `heddle migrate` (`heddle_server.storage.migrate`) is the way in.

The `alembic` command works too, for those who write migrations: `alembic current`, `history`, `revision -m "…"`,
`upgrade heddle@head`. It reads `DATABASE_URL`, and takes no lock: have no server start meanwhile.

The version table is `heddle.alembic_version`; a graph package's versions are branches of their own in it. Each
revision commits by itself, so one that builds indexes concurrently can leave its transaction.
"""

from __future__ import annotations

import asyncio
import os

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from alembic import context
from heddle_server.dsn import Dsn
from heddle_server.storage.tables import metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=metadata.schema,
        include_schemas=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_alone() -> None:
    """For the `alembic` command: connect to `DATABASE_URL`."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit(
            "Set DATABASE_URL to the database that is meant (heddle dev prints it), or use heddle migrate."
        )
    engine = create_async_engine(Dsn.parse(url).sqlalchemy_url())
    async with engine.connect() as connection:
        await connection.execute(text("CREATE SCHEMA IF NOT EXISTS heddle"))
        await connection.commit()
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


handed = context.config.attributes.get("connection")
if isinstance(handed, Connection):
    run(handed)
else:
    asyncio.run(run_alone())
