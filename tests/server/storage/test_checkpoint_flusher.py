"""The write-behind: groups, fences, and what happens when a statement fails."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from heddle_core.domain.errors import LeaseLost, Unavailable
from heddle_core.domain.run import Durability
from heddle_server.storage.flusher import Flusher
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.rows import FLUSH_ROWS
from tests.server.storage.test_checkpoint_runs import Notes, asker, counter
from tests.support.checkpoint_world import (
    CheckpointWorld,
    config_for,
    config_on,
    eventually,
    locked_run,
    waiting_backend,
    write,
)


async def test_rows_of_concurrent_runs_share_one_statement(world: CheckpointWorld) -> None:
    ledgers = [await world.claim() for _ in range(10)]
    for ledger in ledgers:
        await write(world, ledger)
    await asyncio.gather(*(world.flusher.flush_now(ledger) for ledger in ledgers))

    assert sum("flush_rows" in statement for statement in world.statements) == 1
    assert await world.pool.fetchval("SELECT count(*) FROM checkpoint_writes") == 10


async def test_rows_are_written_after_a_while_without_being_asked(world: CheckpointWorld) -> None:
    ledger = await world.claim()
    release = asyncio.Event()

    async def wait(state: Notes) -> Notes:
        await release.wait()
        return {}

    from langgraph.graph import START, StateGraph

    graph = StateGraph(Notes)
    graph.add_node("wait", wait)
    graph.add_edge(START, "wait")
    running = asyncio.ensure_future(graph.compile(world.saver).ainvoke({"notes": []}, config_for(ledger)))

    async def stored() -> bool:
        return await world.rows("checkpoints", ledger.thread) == 2

    await eventually(stored, "both checkpoints before the node are stored while it runs")
    release.set()
    await running


async def test_the_row_bound_flushes_at_once(world: CheckpointWorld) -> None:
    ledger = await world.claim()
    for _ in range(128):
        await write(world, ledger)

    async def stored() -> bool:
        return await world.rows("checkpoint_writes", ledger.thread) == 128

    await eventually(stored, "no checkpoint was made, so only the bound can have flushed")


async def test_the_byte_bound_flushes_at_once(world: CheckpointWorld) -> None:
    ledger = await world.claim()
    await write(world, ledger, value="x" * 300_000)

    async def stored() -> bool:
        return await world.rows("checkpoint_writes", ledger.thread) == 1

    await eventually(stored, "one large write is enough")


async def test_rows_that_left_with_a_close_do_not_count(world: CheckpointWorld) -> None:
    for _ in range(20):
        ledger = await world.claim()
        for _ in range(20):
            await write(world, ledger)
        assert await world.close(ledger)
    other = await world.claim()
    await write(world, other)
    assert other.pending_rows == 1


async def test_a_repeated_key_in_one_batch_keeps_the_last_reserved_and_the_first_ordinary_write(
    world: CheckpointWorld,
) -> None:
    for ledger in (await world.claim(), None):
        thread = ledger.thread if ledger else str(uuid4())
        config = config_for(ledger, checkpoint_id="c") if ledger else config_on(thread, checkpoint_id="c")
        task = str(uuid4())
        await world.saver.aput_writes(config, [("__resume__", "a"), ("__resume__", "b"), ("notes", "n")], task)
        await world.saver.aput_writes(config, [("__resume__", "c"), ("x", 0), ("notes", "late")], task)
        if ledger:
            await world.flusher.flush_now(ledger)
        rows = await world.pool.fetch(
            "SELECT idx, channel, blob FROM checkpoint_writes WHERE thread_id = $1 ORDER BY idx", thread
        )
        values = [(row["idx"], world.saver.serde.loads_typed(("msgpack", row["blob"]))) for row in rows]
        assert values == [(-4, "c"), (1, 0), (2, "n")]


async def test_a_run_that_was_taken_over_is_told_and_the_others_are_stored(world: CheckpointWorld) -> None:
    lost, kept = await world.claim(), await world.claim()
    new = await world.take_over(lost)
    await write(world, lost)
    await write(world, kept)
    await world.flusher.flush_now(kept)

    assert world.stopped == [lost.run_id]
    assert lost.lost
    assert not kept.lost
    assert await world.rows("checkpoint_writes", lost.thread) == 0
    assert await world.rows("checkpoint_writes", kept.thread) == 1
    with pytest.raises(LeaseLost):
        await write(world, lost)
    assert not lost.take_tail()
    await write(world, new)
    await world.flusher.flush_now(new)


async def test_waiting_for_a_step_of_a_lost_run_raises(world: CheckpointWorld) -> None:
    lost = await world.claim(durability=Durability.SYNC)
    await world.take_over(lost)
    with pytest.raises(LeaseLost):
        await counter(3).compile(world.saver).ainvoke({"notes": []}, config_for(lost), durability="sync")


async def test_a_lost_run_hears_of_it_while_it_runs(world: CheckpointWorld) -> None:
    """In `async` LangGraph itself would say it only after the last node."""
    ledger = await world.claim()
    steps = 0

    async def step(state: Notes) -> Notes:
        nonlocal steps
        steps += 1
        if steps == 3:
            await world.take_over(ledger)
        if steps > 3:
            await asyncio.sleep(0.005)
        return {"count": 0}

    from langgraph.graph import START, StateGraph

    graph = StateGraph(Notes)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_edge("step", "step")
    running = asyncio.ensure_future(
        graph.compile(world.saver).ainvoke({}, config_for(ledger) | {"recursion_limit": 1000}, durability="async")
    )

    async def told() -> bool:
        return world.stopped == [ledger.run_id]

    await eventually(told, "long before the thousandth step")
    assert steps < 100
    running.cancel()
    await asyncio.wait([running], timeout=5)


async def test_a_takeover_waits_for_a_flush_that_holds_the_claim(world: CheckpointWorld) -> None:
    ledger = await world.claim()
    await write(world, ledger)
    rows = ledger.take_tail()
    flushing = await world.connect()
    try:
        transaction = flushing.transaction()
        await transaction.start()
        owned = await flushing.fetchval(FLUSH_ROWS, [ledger.run_id], [ledger.token], *rows.parameters())
        assert owned == [ledger.run_id]
        takeover = asyncio.ensure_future(world.take_over(ledger))
        done, _ = await asyncio.wait([takeover], timeout=0.1)
        assert not done
        await transaction.commit()
        await takeover
    finally:
        await flushing.close()
    assert await world.rows("checkpoint_writes", ledger.thread) == 1


async def test_a_flush_that_meets_an_uncommitted_takeover_is_refused(world: CheckpointWorld) -> None:
    ledger = await world.claim()
    await write(world, ledger)
    thief = await world.connect()
    try:
        transaction = thief.transaction()
        await transaction.start()
        await thief.execute("UPDATE heddle.run SET lease_token = $2 WHERE run_id = $1", ledger.run_id, uuid4())
        flush = asyncio.ensure_future(world.flusher.flush_now(ledger))
        await waiting_backend(world)
        await transaction.commit()
        with pytest.raises(LeaseLost):
            await flush
    finally:
        await thief.close()
    assert await world.rows("checkpoint_writes", ledger.thread) == 0


async def test_a_poison_row_fails_only_its_run(world: CheckpointWorld) -> None:
    first, guilty, last = [await world.claim() for _ in range(3)]
    await write(world, first)
    await write(world, guilty, channel="nul\0")
    await write(world, last)
    results = await asyncio.gather(
        *(world.flusher.flush_now(ledger) for ledger in (first, guilty, last)), return_exceptions=True
    )

    assert [type(result) for result in results] == [type(None), Unavailable, type(None)]
    assert world.stopped == [guilty.run_id]
    assert isinstance(guilty.error, asyncpg.DataError)
    assert [await world.rows("checkpoint_writes", ledger.thread) for ledger in (first, guilty, last)] == [1, 0, 1]
    with pytest.raises(Unavailable):
        await write(world, guilty)


async def test_an_error_in_a_run_that_ends_by_interrupt_is_not_swallowed(world: CheckpointWorld) -> None:
    ledger = await world.claim()
    await write(world, ledger, channel="nul\0")
    await asker(1).compile(world.saver).ainvoke({"notes": []}, config_for(ledger), durability="async")
    with pytest.raises(Unavailable):
        await world.flusher.flush_now(ledger)
    assert ledger.error is not None
    assert ledger.head is None
    assert not ledger.take_tail()


@pytest.mark.parametrize("how", ["pg_terminate_backend", "pg_cancel_backend"])
async def test_a_flush_cut_in_the_middle_is_repeated(world: CheckpointWorld, how: str) -> None:
    ledger = await world.claim()
    await write(world, ledger)
    async with locked_run(world, ledger) as other:
        flush = asyncio.ensure_future(world.flusher.flush_now(ledger))
        await other.execute(f"SELECT {how}($1)", await waiting_backend(world))
    await asyncio.wait_for(flush, 5)
    assert await world.rows("checkpoint_writes", ledger.thread) == 1
    assert world.stopped == []


async def test_a_full_disk_keeps_the_rows_until_there_is_room(world: CheckpointWorld) -> None:
    await world.pool.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;"
        "CREATE TRIGGER full_disk BEFORE INSERT ON checkpoint_writes EXECUTE FUNCTION full_disk()"
    )
    ledger = await world.claim()
    await write(world, ledger)
    flush = asyncio.ensure_future(world.flusher.flush_now(ledger))

    async def tried() -> bool:
        return sum("flush_rows" in statement for statement in world.statements) >= 2

    await eventually(tried, "it is tried again")
    await write(world, ledger)
    assert world.stopped == []
    await world.pool.execute("DROP TRIGGER full_disk ON checkpoint_writes")
    await asyncio.wait_for(flush, 5)
    await asyncio.wait_for(world.flusher.flush_now(ledger), 5)
    assert await world.rows("checkpoint_writes", ledger.thread) == 2


async def test_a_close_waits_for_the_flush_in_flight_and_writes_the_rest(world: CheckpointWorld) -> None:
    ledger = await world.claim()
    await write(world, ledger)
    async with locked_run(world, ledger):
        flush = asyncio.ensure_future(world.flusher.flush_now(ledger))
        await waiting_backend(world)
        with pytest.raises(RuntimeError, match="settle"):
            ledger.take_tail()
        await write(world, ledger)
        close = asyncio.ensure_future(world.close(ledger))
    assert await asyncio.wait_for(close, 5)
    await flush
    assert await world.rows("checkpoint_writes", ledger.thread) == 2


async def test_a_discarded_ledger_writes_nothing_more(world: CheckpointWorld) -> None:
    ledger = await world.claim()
    await write(world, ledger)
    ledger.discard()
    await world.flusher.flush_now(ledger)
    assert not ledger.take_tail()
    assert await world.rows("checkpoint_writes", ledger.thread) == 0
    with pytest.raises(Unavailable):
        await write(world, ledger)


async def test_a_stalled_database_makes_graphs_wait_and_then_fails_the_run_that_floods(
    world: CheckpointWorld,
) -> None:
    bounds = {"size": 1000, "backlog": 10_000, "patience": 0.0}
    async with Flusher(world.pool, on_lost=world.stopped.append, **bounds) as flusher:  # type: ignore[arg-type]
        world.flusher, world.saver = flusher, type(world.saver)(world.pool, flusher)
        ledger, other = await world.claim(), await world.claim()
        async with locked_run(world, ledger):
            await write(world, ledger, value="x" * 2000)
            await waiting_backend(world)
            await asyncio.wait_for(flusher.room(), 1)
            await write(world, ledger, value="x" * 12_000)
            waiting = asyncio.ensure_future(flusher.room())
            done, _ = await asyncio.wait([waiting], timeout=0.05)
            assert not done
            await write(world, other, value="x" * 40_000)
            assert isinstance(other.error, Unavailable)
            assert world.stopped == [other.run_id]
        await asyncio.wait_for(waiting, 5)
        await flusher.flush_now(ledger)
        assert await world.rows("checkpoint_writes", ledger.thread) == 2


async def test_leaving_the_flusher_writes_what_is_left_and_leaving_twice_is_harmless(
    world: CheckpointWorld,
) -> None:
    flusher = Flusher(world.pool)
    async with flusher:
        world.saver = type(world.saver)(world.pool, flusher)
        ledger = await world.claim()
        await write(world, ledger)
    assert await world.rows("checkpoint_writes", ledger.thread) == 1
    await flusher.__aexit__(None, None, None)
    await write(world, ledger)
    with pytest.raises(Unavailable, match="stopping"):
        await flusher.flush_now(ledger)


async def test_a_state_update_is_never_flushed(world: CheckpointWorld) -> None:
    ledger = Ledger.detached(uuid4())
    for _ in range(200):
        await write(world, ledger)
    assert ledger.pending_rows == 200


async def test_a_read_survives_the_loss_of_its_connection(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), counter(1).compile(world.saver)
    await graph.ainvoke({"notes": []}, config_on(thread))
    other = await world.connect()
    try:
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await other.close()
    assert (await graph.aget_state(config_on(thread))).values["count"] == 1


async def test_a_database_that_does_not_answer_is_reported_as_unavailable(world: CheckpointWorld) -> None:
    await world.pool.execute(
        "CREATE OR REPLACE FUNCTION heddle.delete_checkpoints(p_threads text[]) RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'shutting down' USING ERRCODE = '57P01'; END $$"
    )
    with pytest.raises(Unavailable, match="does not answer"):
        await world.saver.adelete_thread(str(uuid4()))


async def test_two_claims_of_one_run_in_one_process_are_told_apart(world: CheckpointWorld) -> None:
    old = await world.claim()
    new = await world.take_over(old)
    task = str(uuid4())
    await write(world, old, value="old", task=task)
    await write(world, new, value="new", task=task)
    await write(world, old, value="old")
    await world.flusher.flush_now(new)

    assert old.lost
    assert not new.lost
    stored = await world.pool.fetch("SELECT blob FROM checkpoint_writes WHERE thread_id = $1", new.thread)
    assert [world.saver.serde.loads_typed(("msgpack", row["blob"])) for row in stored] == ["new"]
