"""Runs migrations on the connection it is handed. `heddle_server.storage.migrate` is the way in.

The version table is `heddle.alembic_version`; a graph package's versions are branches of their own in it. Each
revision commits by itself, so one that builds indexes concurrently can leave its transaction.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from heddle_server.storage.tables import metadata

connection = context.config.attributes.get("connection")
if not isinstance(connection, Connection):
    raise SystemExit("Migrations are run by `heddle migrate up`, which also keeps two of them from running at once.")

context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table_schema=metadata.schema,
    include_schemas=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
