"""A run's row as a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heddle_core.domain.ids import AssistantId, RunId, ThreadId
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import MultitaskStrategy, Run, RunStatus

__all__ = ["encoded", "run_of"]


def encoded(text: str) -> Encoded:
    return Encoded(text.encode())


def run_of(row: Mapping[str, Any], *, status: RunStatus | None = None) -> Run:
    """Takes the columns by name, JSON columns as text. `status` for a row that does not carry it."""
    error = row.get("error")
    return Run(
        run_id=RunId(row["run_id"]),
        thread_id=ThreadId(row["thread_id"]),
        assistant_id=AssistantId(row["assistant_id"]),
        graph_id=row["graph_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        status=status or RunStatus(row["status"]),
        metadata=encoded(row["metadata"]),
        kwargs=encoded(row["kwargs"]),
        multitask_strategy=MultitaskStrategy(row["multitask_strategy"]),
        attempt=row["attempt"],
        error=None if error is None else encoded(error),
        head_checkpoint_id=row.get("head_checkpoint_id"),
        resumable=row["resumable"],
        ephemeral=row["ephemeral"],
    )
