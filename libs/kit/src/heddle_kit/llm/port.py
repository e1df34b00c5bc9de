"""What a graph asks of a language model, and the faults it must expect.

ModelFault
├── Unreachable      no connection, or the service kept failing until the deadline
├── TimedOut         the deadline passed
├── KeyRejected      401 or 403
└── RequestRejected  any other answer that says the request itself is wrong
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class ModelFault(Exception):
    """The model gave no answer. The message never holds the provider's own text, which may hold the key."""


class Unreachable(ModelFault):
    """The model service cannot be reached."""


class TimedOut(ModelFault):
    """The model did not answer in time."""


class KeyRejected(ModelFault):
    """The model service does not accept the key."""


class RequestRejected(ModelFault):
    """The model service does not accept the request."""


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    role: Role
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The model's own words for why it will not answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer. `finish` is None when the stream was cut before the model said that it was done."""

    text: str
    calls: tuple[str, ...]  # arguments of the tool calls, as the text the model wrote
    refusal: Refusal | None
    finish: str | None


class Model(Protocol):
    """A model that can be asked for an object of a given shape."""

    async def ask(self, turns: Sequence[Turn], *, tool: str, about: str, schema: Mapping[str, Any]) -> Reply:
        """One answer within the model's deadline. Models may ignore the tool and answer in text."""
