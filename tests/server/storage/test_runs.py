"""Runs as rows: inserted, listed, counted, cancelled and deleted."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import orjson
import pytest

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.ids import new_run_id, new_thread_id
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import CancelAction, Outcome, RunStatus
from heddle_core.domain.thread import Page, StateSummary
from heddle_server.storage.sessions import transaction
from tests.support.queue_world import QueueWorld, new_run

STATE = StateSummary(values=Encoded(b"{}"), checkpoint_id="c")


async def test_an_inserted_run_is_pending_and_its_thread_busy(queued: QueueWorld) -> None:
    thread = new_thread_id()
    await queued.sql("INSERT INTO heddle.thread (thread_id, metadata) VALUES ($1, $2)", thread, '{"graph_id": "old"}')
    new = new_run(thread)
    async with queued.runs() as runs:
        run = await runs.insert(new)
        assert run == await runs.get(thread, new.run_id) == await runs.find(new.run_id)
        assert await runs.get(new_thread_id(), new.run_id) is None
    assert (run.status, run.attempt, run.graph_id) == (RunStatus.PENDING, 0, "echo")
    assert orjson.loads(run.metadata)["graph_id"] == "echo"
    row = await queued.thread_row(thread)
    assert (row["status"], orjson.loads(row["metadata"])["graph_id"]) == ("busy", "echo")


async def test_a_delay_moves_the_creation_time(queued: QueueWorld) -> None:
    new = new_run(delay_seconds=90.5)
    await queued.enqueued(new)
    ahead = await queued.one("SELECT created_at - updated_at FROM heddle.run")
    assert timedelta(seconds=90) < ahead < timedelta(seconds=91)


async def test_runs_are_listed_newest_first_page_by_page_and_by_status(queued: QueueWorld) -> None:
    thread = new_thread_id()
    made = [await queued.enqueued(new_run(thread)) for _ in range(5)]
    (claim,) = await queued.claimed(1)
    async with queued.runs() as runs:
        pages = [await runs.list(thread, Page(limit=2, offset=offset), None) for offset in (0, 2, 4)]
        assert [run.run_id for page in pages for run in page] == made[::-1]
        running = await runs.list(thread, Page(), RunStatus.RUNNING)
        assert [run.run_id for run in running] == [claim.run_id]


async def test_columns_that_nobody_selected_are_not_read(queued: QueueWorld) -> None:
    new = new_run()
    await queued.enqueued(new)
    async with queued.runs() as runs:
        (run,) = await runs.list(new.thread_id, Page(select=frozenset({"run_id", "metadata"})), None)
    assert run.kwargs == b"{}"
    assert orjson.loads(run.metadata)["who"] == "run"


async def test_runs_in_flight_come_oldest_first(queued: QueueWorld) -> None:
    thread = new_thread_id()
    made = [await queued.enqueued(new_run(thread)) for _ in range(3)]
    (claim,) = await queued.claimed(1)
    other = await queued.enqueued(new_run())
    async with queued.runs() as runs:
        assert [run.run_id for run in await runs.inflight(thread)] == made
        assert {run.run_id for run in await runs.inflight_anywhere(None)} == {*made, other}
        assert [run.run_id for run in await runs.inflight_anywhere(RunStatus.RUNNING)] == [claim.run_id]


@pytest.mark.parametrize("action", list(CancelAction))
async def test_cancel_ends_what_is_pending_and_asks_what_runs(queued: QueueWorld, action: CancelAction) -> None:
    thread = new_thread_id()
    for _ in range(3):
        await queued.enqueued(new_run(thread))
    (claim,) = await queued.claimed(1)
    async with queued.runs() as runs:
        inflight = await runs.inflight(thread)
        assert await runs.cancel(inflight, action) == [claim.run_id]
        left = await runs.list(thread, Page(), None)
    ended = [run.status for run in left if run.run_id != claim.run_id]
    assert ended == ([RunStatus.INTERRUPTED] * 2 if action is CancelAction.INTERRUPT else [])
    assert (await queued.run_row(claim.run_id))["cancel_action"] == action
    assert (await queued.thread_row(thread))["status"] == "busy"


async def test_a_thread_whose_last_pending_run_is_cancelled_rests_as_before(queued: QueueWorld) -> None:
    claim = await queued.opened()
    await queued.queue.finish(claim, Outcome.success(), StateSummary(has_next=True, checkpoint_id="c"))
    await queued.enqueued(new := new_run(claim.thread_id))
    async with queued.runs() as runs:
        assert await runs.cancel(await runs.inflight(new.thread_id), CancelAction.INTERRUPT) == []
        assert await runs.cancel([], CancelAction.INTERRUPT) == []
    assert (await queued.thread_row(new.thread_id))["status"] == "interrupted"


async def test_rolling_back_a_run_that_was_given_back_removes_its_checkpoints(queued: QueueWorld) -> None:
    claim = await queued.opened()
    await queued.checkpoint(claim.thread_id, "own", claim.run_id)
    await queued.queue.finish(claim, Outcome.released(), None)
    async with queued.runs() as runs:
        await runs.cancel([claim.run], CancelAction.ROLLBACK)
    assert await queued.one("SELECT count(*) FROM checkpoints") == 0
    assert await queued.run_row(claim.run_id) is None


async def test_deleting_the_last_run_forgets_its_outcome_and_an_older_one_does_not(queued: QueueWorld) -> None:
    first = await queued.opened()
    await queued.queue.finish(first, Outcome.success(), StateSummary(has_next=True, checkpoint_id="c"))
    second = await queued.opened(new_run(first.thread_id))
    failure = Encoded(b'{"error": "E", "message": ""}')
    await queued.queue.finish(second, Outcome.failed(failure), StateSummary(has_next=True, checkpoint_id="d"))
    async with queued.runs() as runs:
        await runs.delete(first.run)
    assert (await queued.thread_row(first.thread_id))["status"] == "error"
    async with queued.runs() as runs:
        await runs.delete(second.run)
        assert await runs.find(second.run_id) is None
    row = await queued.thread_row(first.thread_id)
    assert (row["status"], row["error"]) == ("interrupted", None)


async def test_a_run_in_flight_is_not_deleted(queued: QueueWorld) -> None:
    claim = await queued.opened()
    async with queued.runs() as runs:
        await runs.delete(claim.run)
    assert await queued.run_row(claim.run_id) is not None


async def test_a_watched_pending_run_announces_that_it_was_cancelled(queued: QueueWorld) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()
    run_id = await queued.enqueued(new_run())
    async with queued.database.pool.acquire() as connection:

        def hear(*said: object) -> None:
            heard.put_nowait(said[3])

        await connection.add_listener("heddle", hear)
        async with queued.runs() as runs:
            watched = await runs.watch(run_id)
            assert watched is not None
            await runs.cancel([watched], CancelAction.INTERRUPT)
            assert await runs.watch(new_run_id()) is None
        async with asyncio.timeout(5):
            assert await heard.get() == f"run_ended {run_id}"
        await connection.remove_listener("heddle", hear)


async def test_a_transaction_on_a_broken_connection_is_unavailable_and_the_next_one_works(queued: QueueWorld) -> None:
    with pytest.raises(Unavailable):
        async with transaction(queued.database.engine) as connection:
            await connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    async with transaction(queued.database.engine) as connection:
        assert (await connection.exec_driver_sql("SELECT 1")).scalar_one() == 1
