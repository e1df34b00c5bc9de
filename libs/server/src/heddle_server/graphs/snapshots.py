"""LangGraph's StateSnapshot as the API shows it (server-api 2.4) and as the thread row keeps it."""

from __future__ import annotations

from typing import Any

from langgraph.types import Interrupt, PregelTask, StateSnapshot

from heddle_core.domain.json import EMPTY_OBJECT, JsonObject
from heddle_core.domain.thread import StateSummary
from heddle_server.graphs.encoding import encode
from heddle_server.graphs.stream_events import reference, visible


def summary(snapshot: StateSnapshot) -> StateSummary:
    """What a thread row shows of its newest root checkpoint; `values` None when there is none yet."""
    if snapshot.metadata is None:
        return StateSummary()
    waiting = {task.id: _questions(task.interrupts) for task in snapshot.tasks if task.interrupts}
    return StateSummary(
        values=encode(snapshot.values),
        interrupts=encode(waiting) if waiting else EMPTY_OBJECT,
        has_next=bool(snapshot.next),
        checkpoint_id=snapshot.config["configurable"].get("checkpoint_id"),
    )


def thread_state(snapshot: StateSnapshot) -> JsonObject:
    """A ThreadState, ready to be encoded. An id that names no checkpoint is echoed with empty values."""
    here = reference(snapshot.config)
    if snapshot.metadata is None and here is not None and "checkpoint_id" not in here:
        here = None
    parent = reference(snapshot.parent_config)
    return {
        "values": snapshot.values,
        "next": snapshot.next,
        "tasks": [_task(task) for task in snapshot.tasks],
        "metadata": None if snapshot.metadata is None else _metadata(snapshot, here),
        "created_at": snapshot.created_at,
        "checkpoint": here,
        "parent_checkpoint": parent,
        "interrupts": _questions(snapshot.interrupts),
        "checkpoint_id": here and here.get("checkpoint_id"),
        "parent_checkpoint_id": parent and parent.get("checkpoint_id"),
    }


def _metadata(snapshot: StateSnapshot, here: JsonObject | None) -> JsonObject:
    """What is stored, and whose it is. Stored it is not: a copied checkpoint would name the thread it came from."""
    shown = {} if snapshot.metadata is None else dict(visible(snapshot.metadata))
    return shown if here is None else {**shown, "thread_id": here["thread_id"]}


def _task(task: PregelTask) -> JsonObject:
    inner = task.state
    if not isinstance(inner, StateSnapshot):
        state, checkpoint = None, reference(inner)
    elif task.result is not None:  # it has finished: its state is no longer of interest
        state, checkpoint = None, reference(inner.config)
    else:
        state, checkpoint = thread_state(inner), None
    return {
        "id": task.id,
        "name": task.name,
        "path": task.path,
        "error": None if task.error is None else _error_text(task.error),
        "interrupts": _questions(task.interrupts),
        "checkpoint": checkpoint,
        "state": state,
        "result": task.result,
    }


def _questions(interrupts: tuple[Interrupt, ...]) -> list[JsonObject]:
    return [{"id": interrupt.id, "value": interrupt.value} for interrupt in interrupts]


def _error_text(error: Any) -> str:
    return error if isinstance(error, str) else repr(error)
