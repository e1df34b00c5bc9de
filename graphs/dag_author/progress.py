"""Steps shown while a request is worked on, as `custom` stream events."""

from __future__ import annotations

from enum import StrEnum

from langgraph.config import get_stream_writer


class Step(StrEnum):
    PLANNING = "planning"
    VALIDATING = "validating"
    RENDERING = "rendering"
    CHECKING = "checking"
    COMMITTING = "committing"
    DONE = "done"
    FAILED = "failed"


def report(step: Step, text: str, **details: object) -> None:
    """Tell whoever watches the run which step it is at."""
    get_stream_writer()({"name": "progress", "step": step.value, "text": text, **details})
