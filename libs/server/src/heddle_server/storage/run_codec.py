"""What the caller asked of a run, as the JSON in its row (server-api 2.3), and back."""

from __future__ import annotations

from typing import Any

import orjson

from heddle_core.domain.errors import InvalidRequest
from heddle_core.domain.events import StreamMode
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import Durability, NodeNames, RunKwargs

__all__ = ["asked_checkpoint", "decode_kwargs", "encode_kwargs"]


def encode_kwargs(kwargs: RunKwargs) -> Encoded:
    """JSON text for a column of type `json`: a NUL inside a string survives, as JSONB would not let it."""
    wire = {
        "input": kwargs.input,
        "command": kwargs.command,
        "checkpoint": kwargs.checkpoint,
        "config": kwargs.config,
        "context": kwargs.context,
        "stream_mode": kwargs.stream_modes,
        "interrupt_before": kwargs.interrupt_before,
        "interrupt_after": kwargs.interrupt_after,
        "webhook": None,
        "feedback_keys": kwargs.feedback_keys or None,
        "temporary": kwargs.temporary,
        "subgraphs": kwargs.subgraphs,
        "resumable": kwargs.resumable,
        "checkpoint_during": kwargs.durability is not Durability.EXIT,
        "durability": kwargs.durability,
    }
    try:
        return Encoded(orjson.dumps(wire))
    except TypeError as error:
        raise InvalidRequest(f"cannot be stored as JSON ({error})", field="body") from error


def decode_kwargs(text: str | bytes) -> RunKwargs:
    wire: dict[str, Any] = orjson.loads(text)
    return RunKwargs(
        input=wire["input"],
        command=wire["command"],
        checkpoint=wire["checkpoint"],
        config=wire["config"],
        context=wire["context"],
        stream_modes=tuple(map(StreamMode, wire["stream_mode"])),
        interrupt_before=_node_names(wire["interrupt_before"]),
        interrupt_after=_node_names(wire["interrupt_after"]),
        feedback_keys=tuple(wire["feedback_keys"] or ()),
        temporary=wire["temporary"],
        subgraphs=wire["subgraphs"],
        resumable=wire["resumable"],
        durability=Durability(wire["durability"]),
    )


def asked_checkpoint(kwargs: RunKwargs) -> str | None:
    """The root checkpoint that the caller wants to start from; None: the newest.

    A checkpoint of a subgraph names its root in `checkpoint_map`, under the empty namespace.
    """
    if not kwargs.checkpoint:
        return None
    if kwargs.checkpoint.get("checkpoint_ns"):
        roots = kwargs.checkpoint.get("checkpoint_map") or {}
        found = roots.get("") if isinstance(roots, dict) else None
    else:
        found = kwargs.checkpoint.get("checkpoint_id")
    return found if isinstance(found, str) and found else None


def _node_names(wire: Any) -> NodeNames | None:
    if wire is None:
        return None
    return "*" if wire == "*" else tuple(wire)
