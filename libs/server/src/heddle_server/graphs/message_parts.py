"""Stream mode `messages`: each part carries the message as it is so far (server-api 6.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from langchain_core.messages import BaseMessage, BaseMessageChunk, message_chunk_to_message

from heddle_core.domain.events import Event, StreamMode
from heddle_server.graphs.encoding import encode


class MessageParts:
    """Accumulates the chunks of each message of one run.

    Chunks are joined only when somebody looks, so an unwatched run pays for remembering them and no more.
    """

    def __init__(self) -> None:
        self._joined: dict[str, BaseMessageChunk] = {}
        self._waiting: dict[str, list[BaseMessageChunk]] = {}
        self._introduced: set[str] = set()

    def note(self, message: BaseMessage) -> None:
        """Remember a part that nobody sees."""
        if isinstance(message, BaseMessageChunk):
            self._waiting.setdefault(message.id or "", []).append(message)

    def events(self, message: BaseMessage, metadata: orjson.Fragment) -> Iterator[Event]:
        self.note(message)
        key = message.id or ""
        if key not in self._introduced:
            self._introduced.add(key)
            yield _event("messages/metadata", {key: {"metadata": metadata}})
        if isinstance(message, BaseMessageChunk):
            yield _event("messages/partial", [message_chunk_to_message(self._join(key))])
        else:
            yield _event("messages/complete", [message])

    def _join(self, key: str) -> BaseMessageChunk:
        parts = self._waiting.pop(key)
        if (joined := self._joined.get(key)) is not None:
            parts.insert(0, joined)
        first, *more = parts
        self._joined[key] = whole = first + more if more else first
        return whole


def _event(name: str, data: Any) -> Event:
    return Event(name, encode(data), StreamMode.MESSAGES)
