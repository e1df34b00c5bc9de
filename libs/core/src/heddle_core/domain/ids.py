"""Identifiers. UUIDs made here are version 7, so that rows sort by age and indexes stay compact."""

from __future__ import annotations

import secrets
import time
from typing import NewType
from uuid import UUID, uuid5

RunId = NewType("RunId", UUID)
ThreadId = NewType("ThreadId", UUID)
AssistantId = NewType("AssistantId", UUID)

SYSTEM_ASSISTANTS = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
"""The namespace of system assistant ids, as the LangGraph Server has it (server-api 3.1)."""


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562, version 7): 48 bits of milliseconds, then randomness."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def new_run_id() -> RunId:
    return RunId(uuid7())


def new_thread_id() -> ThreadId:
    return ThreadId(uuid7())


def system_assistant_id(graph_id: str) -> AssistantId:
    """The stable id of the assistant that the server makes for a graph."""
    return AssistantId(uuid5(SYSTEM_ASSISTANTS, graph_id))
