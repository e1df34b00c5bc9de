"""Graphs that read states without building message objects.

A stored message is the dict that JSON shows, wrapped in its class. Building a thousand messages takes ten times as
long as leaving them as they are. That is safe only while nobody computes with them, so a view refuses (`NeedsObjects`)
where the graph's reducers would run: for writes that are not yet part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from copy import copy
from typing import Any

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.channels import BinaryOperatorAggregate, LastValue
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2, JsonPlusSerializer

from heddle_server.graphs.loader import Graph

_MESSAGES = "langchain_core.messages."
_NULL_TASK = "00000000-0000-0000-0000-000000000000"
_NOTES = frozenset({"__error__", "__interrupt__", "__resume__", "__scheduled__"})  # writes that no reducer sees


class NeedsObjects(Exception):
    """This state is to be read with the graph itself."""


def view_of(graph: Graph) -> Graph | None:
    """The graph over a view of its checkpointer; None when it stores its values in a way of its own."""
    saver = graph.checkpointer
    if not isinstance(saver, BaseCheckpointSaver) or type(saver.serde) is not JsonPlusSerializer:
        return None
    names = graph.stream_channels_asis
    if isinstance(names, str) or any(
        type(graph.channels[name]) not in (LastValue, BinaryOperatorAggregate) for name in names
    ):
        return None
    view: Graph = copy(graph)
    view.checkpointer = _ViewSaver(saver)
    return view


class _PlainMessages(JsonPlusSerializer):
    """Loads messages as the dicts they were stored as, and everything else as `real` does.

    The states of a history hold mostly the same messages: each is loaded once, for as long as the view is used.
    """

    def __init__(self, real: JsonPlusSerializer) -> None:
        super().__init__()
        self._real = real
        self._messages: dict[bytes, dict[str, Any]] = {}

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, text = data
        if kind != "msgpack":
            return self._real.loads_typed(data)
        return ormsgpack.unpackb(text, ext_hook=self._extension, option=ormsgpack.OPT_NON_STR_KEYS)

    def _extension(self, code: int, data: bytes) -> Any:
        if code == EXT_PYDANTIC_V2:
            if (known := self._messages.get(data)) is not None:
                return known
            found = ormsgpack.unpackb(data, ext_hook=self._extension, option=ormsgpack.OPT_NON_STR_KEYS)
            if str(found[0]).startswith(_MESSAGES) and isinstance(found[2], dict):
                self._messages[data] = found[2]
                return found[2]
        return self._real.loads_typed(("msgpack", ormsgpack.packb(ormsgpack.Ext(code, data))))


class _ViewSaver(BaseCheckpointSaver[Any]):
    """The reading half of a checkpointer."""

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        assert isinstance(saver.serde, JsonPlusSerializer)
        super().__init__(serde=_PlainMessages(saver.serde))
        self._saver = copy(saver)
        self._saver.serde = self.serde

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await self._saver.aget_tuple(config)
        is_live = "checkpoint_id" not in config["configurable"]
        return found and _checked(found, is_live=is_live)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the name is LangGraph's
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        async for found in self._saver.alist(config, filter=filter, before=before, limit=limit):
            yield _checked(found, is_live=False)


def _checked(found: CheckpointTuple, *, is_live: bool) -> CheckpointTuple:
    for task, channel, _ in found.pending_writes or ():
        if channel not in _NOTES and (is_live or task == _NULL_TASK):
            raise NeedsObjects
    return found
