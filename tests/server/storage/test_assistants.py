"""Assistants and their versions in Postgres."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import orjson
import pytest

from heddle_core.domain.assistant import Assistant, AssistantContent, AssistantFilter
from heddle_core.domain.ids import AssistantId
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.domain.run import RunStatus
from heddle_core.domain.thread import Page
from tests.support.assistant_world import World, shared_database, world

__all__ = ["shared_database", "world"]


def content(**changes: Any) -> AssistantContent:
    values: dict[str, Any] = {"graph_id": "agent", "name": "x", "description": None}
    return AssistantContent(**{**values, "config": {}, "context": {}, "metadata": {}, **changes})


def as_text(metadata: JsonObject) -> Encoded:
    return Encoded(orjson.dumps(metadata))


async def add(world: World, **changes: Any) -> Assistant:
    async with world.storage.begin() as unit:
        made = await unit.assistants.insert(AssistantId(uuid4()), content(**changes))
    assert made is not None
    return made


async def change(world: World, assistant_id: AssistantId, **changes: Any) -> Assistant:
    async with world.storage.begin() as unit:
        await unit.assistants.lock(assistant_id)
        return await unit.assistants.update(assistant_id, content(**changes))


async def test_what_is_inserted_is_found_as_version_one(world: World) -> None:
    made = await add(world, config={"tags": ["ü"]}, context={"a": [1, None]}, metadata={"m": "🙂"}, description="d")
    async with world.storage.begin() as unit:
        assert await unit.assistants.get(made.assistant_id) == made
        [version] = await unit.assistants.versions(made.assistant_id, None, Page())
    assert made.version == 1
    assert made.created_at == made.updated_at
    assert version == made


async def test_an_id_is_taken_once_even_in_a_race(world: World) -> None:
    assistant_id = AssistantId(uuid4())

    async def attempt(n: int) -> Assistant | None:
        async with world.storage.begin() as unit:
            return await unit.assistants.insert(assistant_id, content(name=str(n)))

    outcomes = await asyncio.gather(*(attempt(n) for n in range(5)))
    assert sum(outcome is not None for outcome in outcomes) == 1


async def test_versions_are_numbered_on_after_going_back(world: World) -> None:
    made = await add(world, name="one", context={"n": 1}, config={"configurable": {"n": 1}}, metadata={"v": 1})
    await change(world, made.assistant_id, name="two", graph_id="simple", description="second")
    async with world.storage.begin() as unit:
        back = await unit.assistants.set_latest(made.assistant_id, 1)
        assert await unit.assistants.set_latest(made.assistant_id, 99) is None
    assert back is not None
    restored = (back.version, back.name, back.graph_id, back.description, back.context, back.config, back.metadata)
    assert restored == (1, "one", "agent", None, {"n": 1}, {"configurable": {"n": 1}}, {"v": 1})
    assert back.created_at == made.created_at

    assert (await change(world, made.assistant_id, name="three")).version == 3
    async with world.storage.begin() as unit:
        versions = await unit.assistants.versions(made.assistant_id, None, Page())
        assert [(version.version, version.name) for version in versions] == [(3, "three"), (2, "two"), (1, "one")]
        second = await unit.assistants.versions(made.assistant_id, None, Page(limit=1, offset=1))
        assert [version.version for version in second] == [2]
        first = await unit.assistants.versions(made.assistant_id, as_text({"v": 1}), Page())
        assert [version.version for version in first] == [1]


async def test_concurrent_changes_get_a_version_each(world: World) -> None:
    made = await add(world)
    await asyncio.gather(*(change(world, made.assistant_id, name=str(n)) for n in range(8)))
    async with world.storage.begin() as unit:
        versions = await unit.assistants.versions(made.assistant_id, None, Page(limit=100))
    assert [version.version for version in versions] == list(range(9, 0, -1))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (AssistantFilter(), {"Alpha", "al%pha", "Beta_1", "Beta21"}),
        (AssistantFilter(name="ALPH"), {"Alpha"}),
        (AssistantFilter(name="%"), {"al%pha"}),
        (AssistantFilter(name="a_1"), {"Beta_1"}),
        (AssistantFilter(graph_id="simple"), {"Beta21"}),
        (AssistantFilter(metadata=as_text({"a": {"b": 1}})), {"Alpha"}),
        (AssistantFilter(metadata=as_text({"tags": ["x"]})), {"al%pha"}),
        (AssistantFilter(metadata=as_text({"a": 2})), set()),
        (AssistantFilter(name="beta", graph_id="agent"), {"Beta_1"}),
    ],
)
async def test_a_filter_means_the_same_in_search_and_count(
    world: World, wanted: AssistantFilter, expected: set[str]
) -> None:
    await add(world, name="Alpha", metadata={"a": {"b": 1, "c": 2}})
    await add(world, name="al%pha", metadata={"tags": ["x", "y"]})
    await add(world, name="Beta_1")
    await add(world, name="Beta21", graph_id="simple")
    async with world.storage.begin() as unit:
        assert {found.name for found in await unit.assistants.search(wanted, Page())} == expected
        assert await unit.assistants.count(wanted) == len(expected)


async def test_pages_are_sorted_and_ties_are_broken_by_id(world: World) -> None:
    async with world.storage.begin() as unit:  # one moment for all
        ids = [AssistantId(uuid4()) for _ in range(7)]
        for n, assistant_id in enumerate(ids):
            await unit.assistants.insert(assistant_id, content(name=f"n{n % 2}"))
        pages = [
            await unit.assistants.search(AssistantFilter(), Page(limit=3, offset=offset)) for offset in (0, 3, 6, 9)
        ]
        by_name = await unit.assistants.search(AssistantFilter(), Page(sort_by="name", descending=False))
    assert [len(page) for page in pages] == [3, 3, 1, 0]
    assert [found.assistant_id for page in pages for found in page] == sorted(ids, reverse=True)
    assert [found.name for found in by_name] == ["n0"] * 4 + ["n1"] * 3


async def test_deleting_takes_the_versions_along(world: World) -> None:
    made = await add(world)
    async with world.storage.begin() as unit:
        assert await unit.assistants.delete(made.assistant_id)
        assert not await unit.assistants.delete(made.assistant_id)
    assert await world.execute("SELECT 1 FROM heddle.assistant_version") == []


async def test_it_knows_the_threads_and_the_runs_in_flight_of_an_assistant(world: World) -> None:
    mine, other = (await add(world)).assistant_id, (await add(world)).assistant_id
    threads = sorted([await world.add_thread(mine), await world.add_thread(mine)])
    await world.add_thread(other)
    pending = await world.add_run(threads[0], mine, RunStatus.PENDING)
    running = await world.add_run(threads[1], mine, RunStatus.RUNNING)
    await world.add_run(threads[0], mine, RunStatus.SUCCESS)
    await world.add_run(threads[0], other, RunStatus.PENDING)
    async with world.storage.begin() as unit:
        assert list(await unit.assistants.threads_of(mine)) == threads
        assert list(await unit.assistants.inflight_of(mine)) == [(threads[0], pending), (threads[1], running)]
