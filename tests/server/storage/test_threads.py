"""Threads as rows, on a real Postgres."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest

from heddle_core.domain.ids import ThreadId, new_thread_id
from heddle_core.domain.json import Encoded, Json
from heddle_core.domain.thread import Extract, Page, StateSummary, Thread, ThreadFilter, ThreadStatus
from heddle_server.storage.threads import ThreadRows
from tests.support.thread_world import ThreadWorld, a_tail, world

__all__ = ["world"]

NEWEST = Page(sort_by="updated_at")


def encoded(value: Json) -> Encoded:
    return Encoded(json.dumps(value).encode())


async def insert(world: ThreadWorld, metadata: Json = None, *, ephemeral: bool = False) -> Thread:
    async with world.storage.single() as work:
        made = await work.threads.insert(new_thread_id(), encoded(metadata or {}), ephemeral=ephemeral)
    assert made is not None
    return made


async def search(world: ThreadWorld, wanted: ThreadFilter | None = None, page: Page = NEWEST) -> list[Thread]:
    async with world.storage.single() as work:
        return list(await work.threads.search(wanted or ThreadFilter(), page))


async def count(world: ThreadWorld, wanted: ThreadFilter) -> int:
    async with world.storage.single() as work:
        return await work.threads.count(wanted)


async def get(world: ThreadWorld, thread_id: ThreadId) -> Thread | None:
    async with world.storage.single() as work:
        return await work.threads.get(thread_id)


async def save(world: ThreadWorld, thread_id: ThreadId, state: StateSummary) -> None:
    async with world.storage.begin() as work:
        await work.threads.lock(thread_id)
        await work.threads.save_state(thread_id, a_tail(thread_id, "0c"), state)


async def test_a_new_thread_is_idle_and_empty(world: ThreadWorld) -> None:
    made = await insert(world, {"title": "weather 🌤"})

    assert made == await get(world, made.thread_id)
    assert (made.status, made.values, made.interrupts, made.error) == (ThreadStatus.IDLE, None, b"{}", None)
    assert json.loads(made.metadata) == {"title": "weather 🌤"}
    assert made.created_at == made.updated_at == made.state_updated_at
    assert made.created_at.utcoffset() is not None


async def test_of_two_creates_at_once_one_gets_the_row(world: ThreadWorld) -> None:
    thread_id = new_thread_id()

    async def create(name: str) -> Thread | None:
        async with world.storage.begin() as work:
            return await work.threads.insert(thread_id, encoded({"by": name}))

    made = await asyncio.gather(*(create(str(each)) for each in range(5)))

    winners = [thread for thread in made if thread is not None]
    assert len(winners) == 1
    assert await get(world, thread_id) == winners[0]


async def test_metadata_is_merged_key_by_key(world: ThreadWorld) -> None:
    made = await insert(world, {"keep": 1, "change": {"deep": 1}})

    async with world.storage.single() as work:
        merged = await work.threads.merge_metadata(made.thread_id, encoded({"change": {"new": 2}, "more": None}))
        nobody = await work.threads.merge_metadata(new_thread_id(), encoded({}))

    assert merged is not None
    assert json.loads(merged.metadata) == {"keep": 1, "change": {"new": 2}, "more": None}
    assert merged.updated_at > made.updated_at
    assert merged.state_updated_at == made.state_updated_at
    assert nobody is None


async def test_hidden_threads_are_found_by_id_only(world: ThreadWorld) -> None:
    hidden = await insert(world, {"hidden": True}, ephemeral=True)

    assert await get(world, hidden.thread_id) == hidden
    assert await search(world) == []
    assert await count(world, ThreadFilter()) == 0
    assert await search(world, ThreadFilter(ids=(hidden.thread_id,))) == []


async def test_search_and_count_mean_the_same_threads(world: ThreadWorld) -> None:
    first = await insert(world, {"owner": "ada", "tags": ["x", "y"]})
    second = await insert(world, {"owner": "bob"})
    await save(world, second.thread_id, StateSummary(values=encoded({"n": 7, "l": [1, 2]}), has_next=True))

    for wanted, expected in [
        (ThreadFilter(), {first.thread_id, second.thread_id}),
        (ThreadFilter(metadata=encoded({"owner": "ada"})), {first.thread_id}),
        (ThreadFilter(metadata=encoded({"tags": ["y"]})), {first.thread_id}),
        (ThreadFilter(metadata=encoded({"owner": "nobody"})), set()),
        (ThreadFilter(values=encoded({"l": [2]})), {second.thread_id}),
        (ThreadFilter(status=ThreadStatus.INTERRUPTED), {second.thread_id}),
        (ThreadFilter(ids=(first.thread_id, new_thread_id())), {first.thread_id}),
        (ThreadFilter(ids=()), set()),
        (ThreadFilter(metadata=encoded({"owner": "bob"}), status=ThreadStatus.IDLE), set()),
    ]:
        assert {thread.thread_id for thread in await search(world, wanted)} == expected
        assert await count(world, wanted) == len(expected)


async def test_pages_do_not_overlap_when_times_are_equal(world: ThreadWorld) -> None:
    made = [await insert(world) for _ in range(7)]
    await world.sql("UPDATE heddle.thread SET updated_at = '2026-01-01', status = 'idle'")

    for sort_by in ("updated_at", "status", "thread_id"):
        for descending in (True, False):
            pages = [
                await search(world, page=Page(limit=3, offset=offset, sort_by=sort_by, descending=descending))
                for offset in (0, 3, 6)
            ]
            ids = [thread.thread_id for page in pages for thread in page]
            assert ids == sorted((thread.thread_id for thread in made), reverse=descending)


async def test_the_last_changed_thread_comes_first(world: ThreadWorld) -> None:
    first, second = await insert(world), await insert(world)
    async with world.storage.single() as work:
        await work.threads.merge_metadata(first.thread_id, encoded({"a": 1}))

    assert [thread.thread_id for thread in await search(world)] == [first.thread_id, second.thread_id]


async def test_an_unknown_sort_never_reaches_the_database(world: ThreadWorld) -> None:
    with pytest.raises(ValueError, match="sorted"):
        await search(world, page=Page(sort_by="metadata; DROP TABLE x"))


async def test_what_is_not_selected_is_not_read(world: ThreadWorld) -> None:
    made = await insert(world, {"a": 1})
    await save(world, made.thread_id, StateSummary(values=encoded({"large": "x" * 1000})))

    [found] = await search(world, page=Page(sort_by="updated_at", select=frozenset({"thread_id", "metadata"})))

    assert found.values is None
    assert json.loads(found.metadata) == {"a": 1}


async def test_extracts_walk_keys_and_positions_from_both_ends(world: ThreadWorld) -> None:
    made = await insert(world, {"odd key": {"x": True}})
    await save(
        world, made.thread_id, StateSummary(values=encoded({"messages": [{"content": "hi"}, {"content": "bye"}]}))
    )
    extract = (
        Extract(alias="first", root="values", path=("messages", "0", "content")),
        Extract(alias="last", root="values", path=("messages", "-1", "content")),
        Extract(alias="odd", root="metadata", path=("odd key",)),
        Extract(alias="missing", root="values", path=("nope", "999999999", "x")),
        Extract(alias="all", root="config", path=()),
    )

    [found] = await search(world, page=Page(sort_by="updated_at", extract=extract))

    assert found.extracted is not None
    assert json.loads(found.extracted) == {
        "first": "hi",
        "last": "bye",
        "odd": {"x": True},
        "missing": None,
        "all": {},
    }


async def test_saving_a_state_writes_checkpoints_and_summary_together(world: ThreadWorld) -> None:
    made = await insert(world)
    await world.sql("""UPDATE heddle.thread SET status = 'error', resting_status = 'error', error = '{"error": "E"}'""")
    summary = StateSummary(
        values=encoded({"a": 1}), interrupts=encoded({"t": [{"id": "i", "value": 1}]}), has_next=True
    )

    await save(world, made.thread_id, summary)

    saved = await get(world, made.thread_id)
    assert saved is not None
    assert (saved.status, saved.error) == (ThreadStatus.INTERRUPTED, None)
    assert json.loads(saved.values or b"null") == {"a": 1}
    assert json.loads(saved.interrupts) == {"t": [{"id": "i", "value": 1}]}
    assert saved.state_updated_at > made.state_updated_at
    assert (await world.rows_of(made.thread_id))["checkpoints"] == 1


async def test_a_state_that_was_not_committed_leaves_nothing(world: ThreadWorld) -> None:
    made = await insert(world)

    async def fail() -> None:
        async with world.storage.begin() as work:
            await work.threads.lock(made.thread_id)
            await work.threads.save_state(made.thread_id, a_tail(made.thread_id, "0c"), StateSummary())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()

    assert await get(world, made.thread_id) == made
    assert (await world.rows_of(made.thread_id))["checkpoints"] == 0


async def test_a_saved_state_leaves_a_busy_thread_busy(world: ThreadWorld) -> None:
    made = await insert(world)
    await world.a_run(made.thread_id, "pending")

    await save(world, made.thread_id, StateSummary(has_next=True))

    [row] = await world.sql("SELECT status, resting_status FROM heddle.thread")
    assert tuple(row) == ("busy", "interrupted")


async def test_delete_leaves_nothing_of_the_thread_and_all_of_the_others(world: ThreadWorld) -> None:
    gone, stays = await insert(world), await insert(world)
    for thread in (gone, stays):
        await world.a_run(thread.thread_id)
        await world.a_checkpoint(thread.thread_id)

    async with world.storage.begin() as work:
        assert await work.threads.delete(gone.thread_id)
        assert not await work.threads.delete(ThreadId(uuid4()))

    assert set((await world.rows_of(gone.thread_id)).values()) == {0}
    assert set((await world.rows_of(stays.thread_id)).values()) == {1}


async def test_delete_takes_what_a_flush_wrote_that_was_on_its_way(world: ThreadWorld) -> None:
    made = await insert(world)
    run_id = await world.a_run(made.thread_id)

    async with world.engine.connect() as flush:
        await flush.exec_driver_sql("SELECT 1 FROM heddle.run WHERE run_id = $1 FOR NO KEY UPDATE", (run_id,))

        async def delete() -> None:
            async with world.storage.begin() as work:
                await work.threads.delete(made.thread_id)

        deleting = asyncio.create_task(delete())
        await world.somebody_waits()
        await flush.exec_driver_sql(
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint) VALUES ($1, 'late', '{}')",
            (str(made.thread_id),),
        )
        await flush.commit()
        await deleting

    assert set((await world.rows_of(made.thread_id)).values()) == {0}


async def test_a_copy_has_the_state_and_history_but_no_runs(world: ThreadWorld) -> None:
    made = await insert(world, {"title": "original"})
    summary = StateSummary(values=encoded({"a": 1}), interrupts=encoded({"t": []}), has_next=True)
    await save(world, made.thread_id, summary)
    for _ in range(3):
        await world.a_checkpoint(made.thread_id)
    await world.a_run(made.thread_id)
    target = new_thread_id()

    async with world.storage.single() as work:
        copied = await work.threads.copy(made.thread_id, target)

    assert copied is not None
    assert (copied.thread_id, copied.status) == (target, ThreadStatus.INTERRUPTED)
    assert json.loads(copied.metadata) == {"title": "original"}
    assert json.loads(copied.values or b"null") == {"a": 1}
    assert json.loads(copied.interrupts) == {"t": []}
    assert await world.rows_of(target) == {"checkpoints": 4, "checkpoint_blobs": 3, "checkpoint_writes": 3, "run": 0}
    named = await world.sql("SELECT metadata->>'thread_id' FROM checkpoints WHERE thread_id = :t", t=str(target))
    assert {row[0] for row in named} == {str(target), None}


async def test_a_thread_is_read_without_what_was_not_asked_for(world: ThreadWorld) -> None:
    made = await insert(world, {"title": "long"})
    await save(
        world, made.thread_id, StateSummary(values=encoded({"large": "x" * 1000}), interrupts=encoded({"t": []}))
    )

    async with world.storage.begin() as work:
        named = await work.threads.get(made.thread_id, select=frozenset({"metadata"}))
        locked = await work.threads.lock(made.thread_id)

    for found in (named, locked):
        assert found is not None
        assert (found.values, found.interrupts, found.metadata) == (None, b"{}", made.metadata)


async def test_a_copy_does_not_wait_for_the_lock_of_its_source(world: ThreadWorld) -> None:
    made = await insert(world)

    async with world.storage.begin() as work:
        await work.threads.lock(made.thread_id)
        async with asyncio.timeout(5), world.storage.single() as other:
            assert await other.threads.copy(made.thread_id, new_thread_id()) is not None


async def test_copying_nobody_copies_nothing(world: ThreadWorld) -> None:
    orphan = new_thread_id()
    await world.a_checkpoint(orphan)

    async with world.storage.single() as work:
        assert await work.threads.copy(orphan, new_thread_id()) is None

    assert (await world.sql("SELECT count(*) FROM checkpoints"))[0][0] == 1


async def test_a_lock_is_held_until_the_unit_of_work_ends(world: ThreadWorld) -> None:
    made = await insert(world)

    async with world.storage.begin() as work:
        assert await work.threads.lock(made.thread_id) == made
        async with world.engine.connect() as other:
            skipped = await other.exec_driver_sql("SELECT 1 FROM heddle.thread FOR UPDATE SKIP LOCKED")
            assert skipped.fetchall() == []


def test_rows_implement_the_port() -> None:
    """Checked by mypy."""
    from heddle_core.ports.storage import Threads

    made: type[Threads] = ThreadRows
    assert made
