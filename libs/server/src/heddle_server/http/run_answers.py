"""Answers of the run routes, on threads and without."""

from __future__ import annotations

from typing import Any, Literal

from heddle_core.domain.ids import RunId, ThreadId
from heddle_core.domain.run import CancelAction, OnDisconnect, Run
from heddle_core.usecases import runs
from heddle_core.usecases.run_commands import Attached
from heddle_server.http.answers import fragment
from heddle_server.http.caller import Caller
from heddle_server.http.schemas.answers import RunAnswer, RunOutput, StreamEvent
from heddle_server.http.streams.live import OnGone, forgiving

RunField = Literal[
    "run_id",
    "thread_id",
    "assistant_id",
    "created_at",
    "updated_at",
    "status",
    "metadata",
    "kwargs",
    "multitask_strategy",
    "langsmith_session_name",
]


def run_object(run: Run) -> dict[str, Any]:
    """A run as clients see it (server-api 2.3)."""
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "assistant_id": run.assistant_id,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
        "status": run.status,
        "metadata": fragment(run.metadata),
        "kwargs": fragment(run.kwargs),
        "multitask_strategy": run.multitask_strategy,
        "langsmith_session_name": None,
    }


def cancel_if(wanted: bool, who: Caller, attached: Attached) -> OnGone | None:
    """What to do when the client leaves: stop the run, or nothing."""
    if not wanted:
        return None
    run = attached.run
    return lambda: _cancel(who, run.thread_id, run.run_id)


async def _cancel(who: Caller, thread_id: ThreadId, run_id: RunId) -> None:
    await forgiving(runs.cancel(who.ports, thread_id, run_id, CancelAction.INTERRUPT, wait=False))


def leaves_with_client(on_disconnect: OnDisconnect) -> bool:
    return on_disconnect is OnDisconnect.CANCEL


_PLACES = {
    "Content-Location": {"description": "The path of the run.", "schema": {"type": "string"}},
    "Location": {"description": "Where to go on when the connection breaks.", "schema": {"type": "string"}},
}

RUN: dict[int | str, dict[str, Any]] = {
    200: {
        "model": RunAnswer,
        "description": "The run.",
        "headers": {"Content-Location": _PLACES["Content-Location"]},
    }
}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `metadata` first, then one event per item of the stream modes asked for.",
        "content": {"text/event-stream": {"schema": StreamEvent.model_json_schema()}},
        "headers": _PLACES,
    }
}
RESULT: dict[int | str, dict[str, Any]] = {
    200: {
        "model": RunOutput,
        "description": "The output of the graph; `__interrupt__` in it when it paused, `__error__` when it failed.",
        "headers": _PLACES,
    }
}
