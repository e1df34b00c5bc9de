"""The cache of assistants: what it answers, when it asks again, what it forgets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from heddle_core.domain.assistant import Assistant
from heddle_core.domain.errors import InvalidRequest, NotFound
from heddle_core.domain.ids import AssistantId, system_assistant_id
from heddle_core.ports.graph_runtime import GraphInfo
from heddle_core.usecases.assistant_cache import AssistantCache

BORN = datetime(2026, 1, 1, tzinfo=UTC)


class Rows:
    """Storage with one table, which counts how often it is read and can be changed while it is."""

    def __init__(self) -> None:
        self.rows: dict[AssistantId, Assistant] = {}
        self.reads = 0
        self.during_read: Any = lambda: None

    @property
    def assistants(self) -> Rows:
        return self

    @asynccontextmanager
    async def single(self) -> AsyncIterator[Rows]:
        yield self

    async def get(self, assistant_id: AssistantId) -> Assistant | None:
        self.reads += 1
        found = self.rows.get(assistant_id)
        self.during_read()
        return found

    def add(self, assistant_id: AssistantId | None = None, *, version: int = 1) -> AssistantId:
        assistant_id = assistant_id or AssistantId(uuid4())
        self.rows[assistant_id] = Assistant(
            assistant_id=assistant_id,
            graph_id="agent",
            name="x",
            description=None,
            config={},
            context={},
            metadata={},
            version=version,
            created_at=BORN,
            updated_at=BORN,
        )
        return assistant_id


class OneGraph:
    graphs = {"agent": GraphInfo(graph_id="agent", description=None)}  # noqa: RUF012


def cache_of(rows: Rows, *, size: int = 1024) -> AssistantCache:
    return AssistantCache(cast(Any, rows), cast(Any, OneGraph()), size=size)


def test_the_system_assistant_of_a_graph_has_the_id_that_clients_know() -> None:
    assert system_assistant_id("simple") == UUID("5e0f6b46-d00f-5af4-87dc-ea2105ff526d")


async def test_an_assistant_is_read_once_by_graph_id_and_by_uuid() -> None:
    rows = Rows()
    assistant_id = rows.add(system_assistant_id("agent"))
    cache = cache_of(rows)
    for ref in ("agent", str(assistant_id), assistant_id.hex, str(assistant_id).upper()):
        assert (await cache.get(ref)).assistant_id == assistant_id
    assert rows.reads == 1


@pytest.mark.parametrize(
    "ref", ["nobody", "", "x" * 36, "urn:uuid:0b4c1c1e-7f6e-4a53-9a0e-3f5b7d1c9a11", "\ud800", "a" * 100_000]
)
async def test_what_is_neither_is_refused_with_the_forms_there_are(ref: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await cache_of(Rows()).get(ref)
    message = refused.value.message
    assert message.startswith("Invalid assistant: '")
    assert "Must be either" in message
    assert "UUID" in message
    assert "agent" in message
    assert len(message.encode()) < 1000


async def test_an_unknown_id_is_not_found_and_is_asked_for_again() -> None:
    rows = Rows()
    cache = cache_of(rows)
    missing = AssistantId(uuid4())
    for _ in range(2):
        with pytest.raises(NotFound, match=str(missing)):
            await cache.get(str(missing))
    rows.add(missing)
    assert (await cache.get(str(missing))).assistant_id == missing


async def test_an_invalidated_assistant_is_read_again() -> None:
    rows = Rows()
    assistant_id = rows.add()
    cache = cache_of(rows)
    await cache.get(str(assistant_id))
    rows.add(assistant_id, version=2)
    assert (await cache.get(str(assistant_id))).version == 1
    cache.invalidate(assistant_id)
    assert (await cache.get(str(assistant_id))).version == 2
    rows.add(assistant_id, version=3)
    assert (await cache.reload(assistant_id)).version == 3
    assert (await cache.get(str(assistant_id))).version == 3


async def test_a_row_read_before_an_invalidate_is_not_kept() -> None:
    rows = Rows()
    assistant_id = rows.add()
    cache = cache_of(rows)

    def change() -> None:
        rows.during_read = lambda: None
        rows.add(assistant_id, version=2)
        cache.invalidate(assistant_id)

    rows.during_read = change
    assert (await cache.get(str(assistant_id))).version == 1
    assert (await cache.get(str(assistant_id))).version == 2


async def test_the_least_recently_used_is_forgotten() -> None:
    rows = Rows()
    first, second, third = (rows.add() for _ in range(3))
    cache = cache_of(rows, size=2)
    for wanted in (first, second, first, third, first):
        await cache.get(str(wanted))
    assert rows.reads == 3
    await cache.get(str(second))
    assert rows.reads == 4
