"""Turns what LangGraph streams into the events of the v1 protocol (server-api section 6)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from langchain_core.messages import BaseMessage
from langgraph.types import Command, Interrupt

from heddle_core.domain.events import Event, StreamMode
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.ports.event_log import EventWriter
from heddle_server.graphs.answers import INTERRUPT
from heddle_server.graphs.encoding import encode
from heddle_server.graphs.message_parts import MessageParts

_GRAPH_MODES = {
    StreamMode.UPDATES: "updates",
    StreamMode.MESSAGES: "messages",
    StreamMode.MESSAGES_TUPLE: "messages",
    StreamMode.CUSTOM: "custom",
    StreamMode.DEBUG: "debug",
    StreamMode.TASKS: "tasks",
    StreamMode.CHECKPOINTS: "checkpoints",
}


def graph_modes(asked: Iterable[StreamMode]) -> list[str]:
    """The modes LangGraph is asked for: `values`, which the run's answer is made of, and those somebody wants."""
    return ["values", *dict.fromkeys(_GRAPH_MODES[mode] for mode in asked if mode in _GRAPH_MODES)]


def is_internal(key: str) -> bool:
    """A key that clients must not see."""
    return key.startswith(("__", "langgraph_auth_"))


def visible(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping without internal keys; itself, if it has none."""
    if any(map(is_internal, values)):
        return {key: value for key, value in values.items() if not is_internal(key)}
    return values


class EventStream:
    """Writes one run's events to its log, encoding only while somebody could read them."""

    def __init__(self, asked: Collection[StreamMode], log: EventWriter) -> None:
        self._asked = frozenset(asked)
        self._log = log
        self._parts = MessageParts() if StreamMode.MESSAGES in self._asked else None
        self._metadata: tuple[Any, orjson.Fragment] = (None, orjson.Fragment(b"{}"))
        self.values: Any = None
        """The newest values of the root graph, with `__interrupt__` for all it asked when it paused for an answer."""
        self._asks: dict[str, Interrupt] = {}
        self.text: Encoded | None = None
        """Those values as JSON, if they were encoded."""
        self._write: dict[str, Callable[[str, Any], None]] = {
            "messages": self._messages,
            "values": self._values,
            "updates": self._plain(StreamMode.UPDATES),
            "custom": self._plain(StreamMode.CUSTOM),
            "tasks": self._plain(StreamMode.TASKS, _task),
            "checkpoints": self._plain(StreamMode.CHECKPOINTS, _checkpoint),
            "debug": self._plain(StreamMode.DEBUG, _debug),
        }

    def chunk(self, namespace: tuple[str, ...], mode: str, payload: Any) -> None:
        """One thing that the graph streamed."""
        self._write[mode]("|" + "|".join(namespace) if namespace else "", payload)

    def record(self, record: Mapping[str, Any]) -> None:
        """One record of `astream_events`."""
        if self._log.is_watched:
            shown = {**record, "metadata": visible(record.get("metadata") or {})}
            self._append(StreamMode.EVENTS, "events", shown)

    def parent_command(self, command: Command[Any]) -> None:
        """The graph answered with a command for a parent that is not here (RemoteGraph has it)."""
        if self._log.is_watched:
            # LangGraph has already turned `__parent__` into a namespace of this run, which no caller knows.
            self._log.append([Event("command", encode(replace(command, graph=Command.PARENT)))])

    def _append(self, mode: StreamMode, name: str, data: Any) -> None:
        self._log.append([Event(name, encode(data), mode)])

    def _plain(self, mode: StreamMode, shape: Callable[[Any], Any] | None = None) -> Callable[[str, Any], None]:
        if mode not in self._asked:
            return _ignore

        def write(suffix: str, payload: Any) -> None:
            if self._log.is_watched:
                self._append(mode, mode.value + suffix, shape(payload) if shape else payload)

        return write

    def _values(self, suffix: str, payload: Any) -> None:
        text = None
        if StreamMode.VALUES in self._asked and self._log.is_watched:
            text = encode(payload)
            self._log.append([Event("values" + suffix, text, StreamMode.VALUES)])
        if not suffix:
            self.values, self.text = self._with_questions(payload, text)

    def _with_questions(self, values: Any, text: Encoded | None) -> tuple[Any, Encoded | None]:
        """A node that ends after its sibling has asked makes new values, in which LangGraph leaves the question out."""
        if isinstance(values, dict):
            found = values.get(INTERRUPT, ())
            self._asks |= {interrupt.id: interrupt for interrupt in found}
            if len(found) < len(self._asks):
                return {**values, INTERRUPT: tuple(self._asks.values())}, None
        return values, text

    def _messages(self, suffix: str, payload: tuple[BaseMessage, dict[str, Any]]) -> None:
        message, metadata = payload
        if not self._log.is_watched:
            if self._parts is not None:
                self._parts.note(message)
            return
        shown = self._shown_metadata(metadata)
        if StreamMode.MESSAGES_TUPLE in self._asked:
            self._append(StreamMode.MESSAGES_TUPLE, "messages" + suffix, (message, shown))
        if self._parts is not None:
            self._log.append(list(self._parts.events(message, shown)))

    def _shown_metadata(self, metadata: dict[str, Any]) -> orjson.Fragment:
        """The tokens of one model call come with the very same dict: encode it once."""
        known, text = self._metadata
        if known is not metadata:
            text = orjson.Fragment(encode(visible(metadata)))
            self._metadata = (metadata, text)
        return text


def _ignore(suffix: str, payload: Any) -> None:
    """Asked for by the run itself, not by its caller."""


def _task(payload: JsonObject) -> JsonObject:
    metadata = payload.get("metadata")
    return {**payload, "metadata": visible(metadata)} if metadata else payload


def _checkpoint(payload: JsonObject) -> JsonObject:
    config = _shown_config(payload["config"])
    parent = _shown_config(payload.get("parent_config"))
    return {
        **payload,
        "config": config,
        "parent_config": parent,
        "checkpoint": reference(config),
        "parent_checkpoint": reference(parent),
        "metadata": visible(payload["metadata"]),
        "tasks": [_checkpoint_task(task) for task in payload["tasks"]],
    }


def _checkpoint_task(task: JsonObject) -> JsonObject:
    """A task's `state` is where its subgraph keeps its checkpoints, as long as nobody has read them."""
    state = task.get("state")
    if isinstance(state, dict) and "configurable" in state:
        return {**task, "state": None, "checkpoint": reference(state)}
    return {**task, "checkpoint": None}


def _debug(payload: JsonObject) -> JsonObject:
    shape = _checkpoint if payload["type"] == "checkpoint" else _task
    return {**payload, "payload": shape(payload["payload"])}


def _shown_config(config: Any) -> JsonObject | None:
    if not config:
        return None
    return {"configurable": visible(config.get("configurable") or {})}


def reference(config: Mapping[str, Any] | None) -> JsonObject | None:
    """A checkpoint as the API names it: `{thread_id, checkpoint_ns, checkpoint_id, checkpoint_map?}`."""
    if not config or not (found := config.get("configurable")):
        return None
    names = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")
    return {name: found[name] for name in names if found.get(name) is not None}
