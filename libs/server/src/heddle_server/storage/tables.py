"""The server's tables, in schema `heddle`. Alembic reads this; the hot statements are written by hand.

The four checkpoint tables are not here: they keep the stock layout, in the first schema of the search path, and
belong to `checkpoints.py`.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

metadata = MetaData(
    schema="heddle",
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    },
)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _object(name: str) -> Column[object]:
    return Column(name, JSONB, nullable=False, server_default=text("'{}'::jsonb"))


assistant = Table(
    "assistant",
    metadata,
    Column("assistant_id", Uuid, primary_key=True),
    Column("graph_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    _object("config"),
    _object("context"),
    _object("metadata"),
    Column("version", Integer, nullable=False, server_default=text("1")),
    _now("created_at"),
    _now("updated_at"),
    Index("assistant_graph_id_idx", "graph_id"),
    Index("assistant_created_at_idx", "created_at"),
    Index("assistant_metadata_idx", "metadata", postgresql_using="gin", postgresql_ops={"metadata": "jsonb_path_ops"}),
)

assistant_version = Table(
    "assistant_version",
    metadata,
    Column("assistant_id", ForeignKey("heddle.assistant.assistant_id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("graph_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    _object("config"),
    _object("context"),
    _object("metadata"),
    _now("created_at"),
)

thread = Table(
    "thread",
    metadata,
    Column("thread_id", Uuid, primary_key=True),
    _now("created_at"),
    _now("updated_at"),
    _now("state_updated_at"),
    _object("metadata"),
    _object("config"),
    # `status` is what the API shows: busy while a run is in flight, otherwise `resting_status`.
    Column("status", Text, nullable=False, server_default=text("'idle'")),
    Column("resting_status", Text, nullable=False, server_default=text("'idle'")),
    # Does the newest root checkpoint have tasks to do? What the status falls back to when its last run is deleted.
    Column("has_next", Boolean, nullable=False, server_default=text("false")),
    Column("values", JSONB),
    _object("interrupts"),
    Column("error", JSONB),
    # The thread of a stateless run: removed with it, and not listed meanwhile.
    Column("ephemeral", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("status IN ('idle', 'busy', 'interrupted', 'error')", name="status"),
    CheckConstraint("resting_status IN ('idle', 'interrupted', 'error')", name="resting_status"),
    Index("thread_updated_at_idx", "updated_at", "thread_id"),
    Index("thread_ephemeral_idx", "thread_id", postgresql_where=text("ephemeral")),
    Index("thread_metadata_idx", "metadata", postgresql_using="gin", postgresql_ops={"metadata": "jsonb_path_ops"}),
)

run = Table(
    "run",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("thread_id", ForeignKey("heddle.thread.thread_id", ondelete="CASCADE"), nullable=False),
    Column("assistant_id", Uuid, nullable=False),
    Column("graph_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    _object("metadata"),
    # JSON, not JSONB: an input may hold NUL, and is handed back as it came.
    Column("kwargs", JSON, nullable=False),
    Column("multitask_strategy", Text, nullable=False),
    Column("resumable", Boolean, nullable=False, server_default=text("false")),
    Column("ephemeral", Boolean, nullable=False, server_default=text("false")),
    _now("created_at"),  # includes after_seconds: a run is due from then on
    _now("updated_at"),
    Column("started_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("lease_token", Uuid),
    Column("lease_until", DateTime(timezone=True)),
    Column("cancel_action", Text),
    Column("watched", Boolean, nullable=False, server_default=text("false")),
    Column("error", JSONB),
    Column("head_checkpoint_id", Text),  # the root checkpoint it ended on
    Column("base_checkpoint_id", Text),  # the root checkpoint it started from, for rollback
    # Pending writes of the base checkpoint when the run was opened (an interrupted thread), as heddle.note_base
    # gives them: heddle.rollback_checkpoints puts them back.
    Column("base_writes", JSONB),
    CheckConstraint("status IN ('pending', 'running', 'success', 'error', 'timeout', 'interrupted')", name="status"),
    CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="lease"),
    CheckConstraint("cancel_action IN ('interrupt', 'rollback')", name="cancel_action"),
    Index("run_one_running_per_thread", "thread_id", unique=True, postgresql_where=text("status = 'running'")),
    Index("run_inflight_idx", "thread_id", "created_at", postgresql_where=text("status IN ('pending', 'running')")),
    Index("run_pending_idx", "created_at", postgresql_where=text("status = 'pending'")),
    Index("run_lease_idx", "lease_until", postgresql_where=text("status = 'running'")),
    Index("run_thread_idx", "thread_id", "created_at"),
)

item = Table(
    "item",
    metadata,
    Column("namespace", ARRAY(Text), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
    _now("created_at"),
    _now("updated_at"),
    Index("item_updated_at_idx", "updated_at"),
)
