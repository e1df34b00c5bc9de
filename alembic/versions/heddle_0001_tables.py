"""The server's tables, the checkpoint tables where there are none, and the database functions

Checkpoint tables that exist already are kept as they are and brought to the newest stock layout, which is also what
the stock saver's own set-up would do; that part is not undone. Those made here carry a comment that says so, and only
they are removed on the way down.
"""

from __future__ import annotations

from sqlalchemy import text

from alembic import op
from heddle_server.storage import functions

revision = "heddle_0001"
down_revision = None
branch_labels = ("heddle",)
depends_on = None

OURS = "Made by Heddle."

FUNCTIONS = "cdc64d0db908df2f32d0786d630938aa6732b7f96b8f63503df57a2da4277f80"
"""The SHA-256 of the database functions that this revision installs, in the order of their names. A release that
changes one brings a revision that installs them again and has its own; a test compares the newest with the files."""

ASSISTANTS = """
CREATE TABLE heddle.assistant (
    assistant_id uuid NOT NULL,
    graph_id text NOT NULL,
    name text NOT NULL,
    description text,
    config jsonb NOT NULL DEFAULT '{}'::jsonb,
    context jsonb NOT NULL DEFAULT '{}'::jsonb,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT assistant_pkey PRIMARY KEY (assistant_id)
);
CREATE INDEX assistant_graph_id_idx ON heddle.assistant (graph_id);
CREATE INDEX assistant_created_at_idx ON heddle.assistant (created_at);
CREATE INDEX assistant_metadata_idx ON heddle.assistant USING gin (metadata jsonb_path_ops);
CREATE TABLE heddle.assistant_version (
    assistant_id uuid NOT NULL,
    version integer NOT NULL,
    graph_id text NOT NULL,
    name text NOT NULL,
    description text,
    config jsonb NOT NULL DEFAULT '{}'::jsonb,
    context jsonb NOT NULL DEFAULT '{}'::jsonb,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT assistant_version_pkey PRIMARY KEY (assistant_id, version),
    CONSTRAINT assistant_version_assistant_id_fkey FOREIGN KEY (assistant_id)
        REFERENCES heddle.assistant (assistant_id) ON DELETE CASCADE
);
"""

THREADS = """
CREATE TABLE heddle.thread (
    thread_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    state_updated_at timestamptz NOT NULL DEFAULT now(),
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    config jsonb NOT NULL DEFAULT '{}'::jsonb,
    status text NOT NULL DEFAULT 'idle',
    resting_status text NOT NULL DEFAULT 'idle',
    has_next boolean NOT NULL DEFAULT false,
    values jsonb,
    interrupts jsonb NOT NULL DEFAULT '{}'::jsonb,
    error jsonb,
    ephemeral boolean NOT NULL DEFAULT false,
    CONSTRAINT thread_pkey PRIMARY KEY (thread_id),
    CONSTRAINT thread_status_check CHECK (status IN ('idle', 'busy', 'interrupted', 'error')),
    CONSTRAINT thread_resting_status_check CHECK (resting_status IN ('idle', 'interrupted', 'error'))
);
CREATE INDEX thread_updated_at_idx ON heddle.thread (updated_at, thread_id);
CREATE INDEX thread_ephemeral_idx ON heddle.thread (thread_id) WHERE ephemeral;
CREATE INDEX thread_metadata_idx ON heddle.thread USING gin (metadata jsonb_path_ops);
"""

RUNS = """
CREATE TABLE heddle.run (
    run_id uuid NOT NULL,
    thread_id uuid NOT NULL,
    assistant_id uuid NOT NULL,
    graph_id text NOT NULL,
    status text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    kwargs json NOT NULL,
    multitask_strategy text NOT NULL,
    resumable boolean NOT NULL DEFAULT false,
    ephemeral boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz,
    attempt integer NOT NULL DEFAULT 0,
    lease_token uuid,
    lease_until timestamptz,
    cancel_action text,
    watched boolean NOT NULL DEFAULT false,
    error jsonb,
    head_checkpoint_id text,
    base_checkpoint_id text,
    base_writes jsonb,
    CONSTRAINT run_pkey PRIMARY KEY (run_id),
    CONSTRAINT run_thread_id_fkey FOREIGN KEY (thread_id) REFERENCES heddle.thread (thread_id) ON DELETE CASCADE,
    CONSTRAINT run_status_check
        CHECK (status IN ('pending', 'running', 'success', 'error', 'timeout', 'interrupted')),
    CONSTRAINT run_lease_check CHECK ((status = 'running') = (lease_token IS NOT NULL)),
    CONSTRAINT run_cancel_action_check CHECK (cancel_action IN ('interrupt', 'rollback'))
);
CREATE UNIQUE INDEX run_one_running_per_thread ON heddle.run (thread_id) WHERE status = 'running';
CREATE INDEX run_inflight_idx ON heddle.run (thread_id, created_at) WHERE status IN ('pending', 'running');
CREATE INDEX run_pending_idx ON heddle.run (created_at) WHERE status = 'pending';
CREATE INDEX run_lease_idx ON heddle.run (lease_until) WHERE status = 'running';
CREATE INDEX run_thread_idx ON heddle.run (thread_id, created_at);
"""

ITEMS = """
CREATE TABLE heddle.item (
    namespace text[] COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT item_pkey PRIMARY KEY (namespace, key)
);
CREATE INDEX item_updated_at_idx ON heddle.item (updated_at);
"""

# The stock layout of langgraph-checkpoint-postgres, in the first schema of the search path, where its saver looks.
CHECKPOINTS = {
    "checkpoint_migrations": """CREATE TABLE checkpoint_migrations (v integer PRIMARY KEY)""",
    "checkpoints": """
CREATE TABLE checkpoints (
    thread_id text NOT NULL,
    checkpoint_ns text NOT NULL DEFAULT '',
    checkpoint_id text NOT NULL,
    parent_checkpoint_id text,
    type text,
    checkpoint jsonb NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
);
CREATE INDEX checkpoints_thread_id_idx ON checkpoints (thread_id)""",
    "checkpoint_blobs": """
CREATE TABLE checkpoint_blobs (
    thread_id text NOT NULL,
    checkpoint_ns text NOT NULL DEFAULT '',
    channel text NOT NULL,
    version text NOT NULL,
    type text NOT NULL,
    blob bytea,
    PRIMARY KEY (thread_id, checkpoint_ns, channel, version)
);
CREATE INDEX checkpoint_blobs_thread_id_idx ON checkpoint_blobs (thread_id)""",
    "checkpoint_writes": """
CREATE TABLE checkpoint_writes (
    thread_id text NOT NULL,
    checkpoint_ns text NOT NULL DEFAULT '',
    checkpoint_id text NOT NULL,
    task_id text NOT NULL,
    idx integer NOT NULL,
    channel text NOT NULL,
    type text,
    blob bytea NOT NULL,
    task_path text NOT NULL DEFAULT '',
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);
CREATE INDEX checkpoint_writes_thread_id_idx ON checkpoint_writes (thread_id)""",
}


def upgrade() -> None:
    for script in (ASSISTANTS, THREADS, RUNS, ITEMS):
        _run(script)
    for table, script in CHECKPOINTS.items():
        if not _exists(table):
            _run(script)
            op.execute(f"COMMENT ON TABLE {table} IS '{OURS}'")
    if not _has_column("checkpoint_writes", "task_path"):
        op.execute("ALTER TABLE checkpoint_writes ADD COLUMN task_path text NOT NULL DEFAULT ''")
    if not _is_nullable("checkpoint_blobs", "blob"):
        op.execute("ALTER TABLE checkpoint_blobs ALTER COLUMN blob DROP NOT NULL")
    functions.install(op.get_bind())


def downgrade() -> None:
    functions.drop(op.get_bind())
    for table in ("item", "run", "thread", "assistant_version", "assistant"):
        op.execute(f"DROP TABLE heddle.{table}")
    for table in CHECKPOINTS:
        if _ask("SELECT obj_description(to_regclass(:name), 'pg_class')", name=table) == OURS:
            op.execute(f"DROP TABLE {table}")


def _run(script: str) -> None:
    for statement in filter(str.strip, script.split(";")):
        op.get_bind().exec_driver_sql(statement)


def _ask(question: str, **answers: str) -> object:
    return op.get_bind().execute(text(question), answers).scalar()


def _exists(table: str) -> bool:
    return _ask("SELECT to_regclass(:name) IS NOT NULL", name=table) is True


def _has_column(table: str, column: str) -> bool:
    return (
        _ask(
            "SELECT true FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attname = :column"
            " AND NOT attisdropped",
            name=table,
            column=column,
        )
        is True
    )


def _is_nullable(table: str, column: str) -> bool:
    return (
        _ask(
            "SELECT NOT attnotnull FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attname = :column",
            name=table,
            column=column,
        )
        is True
    )
