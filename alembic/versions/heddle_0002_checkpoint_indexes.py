"""Indexes of the stock layout on checkpoint tables that had none, built while others read and write

Runs outside a transaction and may be repeated: an index left invalid by an earlier try is built again.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "heddle_0002"
down_revision = "heddle_0001"
branch_labels = None
depends_on = None

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
STOCK_VERSIONS = range(10)

STATE = """
SELECT i.indisvalid FROM pg_class table_
  JOIN pg_index i ON i.indrelid = table_.oid JOIN pg_class c ON c.oid = i.indexrelid
 WHERE table_.oid = to_regclass(:table) AND c.relname = :index
"""


def upgrade() -> None:
    missing = {table: state for table in TABLES if (state := _index(table)) is not True}
    if missing:
        with op.get_context().autocommit_block():
            for table, state in missing.items():
                if state is False:
                    op.execute(f"DROP INDEX CONCURRENTLY {table}_thread_id_idx")
                op.execute(f"CREATE INDEX CONCURRENTLY {table}_thread_id_idx ON {table} (thread_id)")
    for version in STOCK_VERSIONS:
        op.execute(f"INSERT INTO checkpoint_migrations (v) VALUES ({version}) ON CONFLICT DO NOTHING")


def downgrade() -> None:
    """Nothing: the indexes belong to the stock layout, and go with the tables if those are ours."""


def _index(table: str) -> object:
    """True: there and valid. False: there and invalid. None: absent."""
    return op.get_bind().execute(text(STATE), {"table": table, "index": f"{table}_thread_id_idx"}).scalar()
