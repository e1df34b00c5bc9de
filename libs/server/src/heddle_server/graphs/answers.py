"""What a run answers (server-api 5.4), and when its last values are the thread's whole state."""

from __future__ import annotations

from typing import Any

from langgraph.channels import BinaryOperatorAggregate, LastValue
from langgraph.channels.delta import DeltaChannel

from heddle_core.domain.json import EMPTY_OBJECT, Encoded
from heddle_core.ports.run_queue import Claim
from heddle_server.graphs.encoding import encode
from heddle_server.graphs.loader import Graph

INTERRUPT = "__interrupt__"

_STORED_AS_SHOWN = (LastValue, BinaryOperatorAggregate, DeltaChannel)
"""Channels whose value in the stream is the one in the checkpoint; others may keep theirs out of it."""


def answer(graph: Graph, values: Any, text: Encoded | None = None) -> Encoded:
    """The final values by the output schema, with the questions that were asked. `text`: the values, if encoded."""
    if values is None:
        return EMPTY_OBJECT
    names = graph.output_channels
    if isinstance(values, dict) and not isinstance(names, str):
        shown = {name: values[name] for name in (*names, INTERRUPT) if name in values}
        if len(shown) < len(values):
            return encode(shown)
    return encode(values) if text is None else text


def is_whole_state(graph: Graph, claim: Claim, values: Any) -> bool:
    """Are the last values of a run that came to its end what a read of the thread would show, with nothing next?"""
    return (
        isinstance(values, dict)
        and INTERRUPT not in values
        and claim.kwargs.checkpoint is None
        and not (claim.kwargs.interrupt_before or claim.kwargs.interrupt_after)
        and not (graph.interrupt_before_nodes or graph.interrupt_after_nodes)
        and not isinstance(graph.stream_channels_asis, str)
        and all(type(graph.channels[name]) in _STORED_AS_SHOWN for name in graph.stream_channels_asis)
    )
