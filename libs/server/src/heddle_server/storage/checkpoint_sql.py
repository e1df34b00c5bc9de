"""The database functions of the checkpointer, in an order in which they can be created."""

from __future__ import annotations

from importlib.resources import files

CHECKPOINT_FUNCTIONS = (
    "write_rows",
    "flush_rows",
    "latest_checkpoint",
    "base_checkpoints",
    "note_base",
    "delete_run_checkpoints",
    "rollback_checkpoints",
    "delete_checkpoints",
    "delete_checkpoints_of",
    "copy_checkpoints",
    "delta_threads",
    "prune_checkpoints",
)


def function_source(name: str) -> str:
    """The `CREATE OR REPLACE FUNCTION` statement in `functions/<name>.sql`."""
    return files("heddle_server.storage").joinpath("functions", f"{name}.sql").read_text(encoding="utf-8")
