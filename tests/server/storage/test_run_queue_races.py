"""The run queue in races whose order the test forces."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from heddle_core.domain.ids import new_thread_id
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import Outcome
from heddle_core.domain.thread import StateSummary
from heddle_core.ports.run_queue import Claim, NotOpened
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.rows import FLUSH_ROWS, Rows
from heddle_server.storage.run_queue import PostgresRunQueue
from tests.support.queue_world import DEADLINE, LEASE, QueueWorld, a_write, new_run, soon

STATE = StateSummary(values=Encoded(b"{}"), checkpoint_id="c")


@asynccontextmanager
async def locked(world: QueueWorld, thread_id: object):  # type: ignore[no-untyped-def]
    """Hold a thread's row in a transaction of another connection; yields that connection."""
    connection = await asyncpg.connect(**world.address.asyncpg_kwargs())
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT FROM heddle.thread WHERE thread_id = $1 FOR UPDATE", thread_id)
    try:
        yield connection
        await transaction.commit()
    finally:
        await connection.close()


async def waiting_for_a_lock(world: QueueWorld, count: int = 1) -> None:
    async def look() -> bool:
        return int(await world.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")) >= count

    await soon(look)


async def test_an_open_that_waited_for_a_close_sees_its_checkpoint_and_is_not_pending(queued: QueueWorld) -> None:
    claim = await queued.opened()
    async with locked(queued, claim.thread_id) as other:
        opening = asyncio.create_task(queued.queue.open(new_run(claim.thread_id), lease=LEASE))
        await waiting_for_a_lock(queued)
        await other.execute(
            "UPDATE heddle.run SET status = 'success', lease_token = NULL WHERE run_id = $1", claim.run_id
        )
        await other.execute(
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint)"
            """ VALUES ($1, 'new', '{"v": 4, "channel_versions": {}}')""",
            str(claim.thread_id),
        )
    opened = await opening
    assert isinstance(opened, Claim)
    assert isinstance(opened.ledger, Ledger)
    assert opened.ledger.head == "new"


async def test_several_opens_of_one_new_thread_make_one_run(queued: QueueWorld) -> None:
    other = PostgresRunQueue(queued.database.pool)
    for _ in range(20):
        thread = new_thread_id()
        answers = await asyncio.gather(
            *(queue.open(new_run(thread), lease=LEASE) for queue in (queued.queue, other) for _ in range(2))
        )
        assert sum(isinstance(answer, Claim) for answer in answers) == 1
        assert [a for a in answers if not isinstance(a, Claim)] == [NotOpened.BUSY] * 3


async def test_two_hundred_opens_of_one_thread_make_one_run_and_199_refusals(queued: QueueWorld) -> None:
    thread = new_thread_id()
    answers = await asyncio.gather(*(queued.queue.open(new_run(thread), lease=LEASE) for _ in range(200)))
    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    assert await queued.one("SELECT count(*) FROM heddle.run") == 1


async def test_a_thread_that_somebody_holds_does_not_hold_up_the_opens_beside_it(queued: QueueWorld) -> None:
    held = new_thread_id()
    await queued.sql("INSERT INTO heddle.thread (thread_id) VALUES ($1)", held)
    async with locked(queued, held):
        slow = asyncio.create_task(queued.queue.open(new_run(held), lease=LEASE))
        others = [asyncio.create_task(queued.queue.open(new_run(), lease=LEASE)) for _ in range(5)]
        async with asyncio.timeout(DEADLINE):
            assert all(isinstance(opened, Claim) for opened in await asyncio.gather(*others))
        assert not slow.done()
    assert isinstance(await slow, Claim)


async def test_a_claim_passes_over_a_thread_on_which_a_run_is_being_opened(queued: QueueWorld) -> None:
    due = new_run()
    await queued.enqueued(due)
    async with locked(queued, due.thread_id) as other:
        assert await queued.claimed() == ()
        await other.execute(
            "UPDATE heddle.run SET status = 'running', lease_token = gen_random_uuid(), attempt = 1 WHERE run_id = $1",
            due.run_id,
        )
    assert await queued.claimed() == ()
    assert await queued.one("SELECT count(*) FROM heddle.run WHERE status = 'running'") == 1


async def test_many_claimers_never_take_the_same_run(queued: QueueWorld) -> None:
    runs = [new_run() for _ in range(30)]
    for new in runs:
        await queued.enqueued(new)
    queues = [PostgresRunQueue(queued.database.pool) for _ in range(4)]
    taken: list[object] = []

    async def drain(queue: PostgresRunQueue) -> None:
        while claims := (await queue.claim(3, lease=LEASE)).claims:
            taken.extend(claim.run_id for claim in claims)

    await asyncio.gather(*map(drain, queues))
    assert sorted(map(str, taken)) == sorted(str(new.run_id) for new in runs)


async def test_a_takeover_waits_for_the_flush_that_came_first(queued: QueueWorld) -> None:
    claim = await queued.opened()
    await queued.let_the_lease_lapse(claim)
    async with queued.database.pool.acquire() as connection, connection.transaction():
        own = await connection.fetchval(FLUSH_ROWS, [claim.run_id], [claim.token], *Rows().parameters())
        assert own == [claim.run_id]
        assert await queued.queue.reap(max_attempts=3) == []  # left for the next sweep, not waited for
    assert await queued.queue.reap(max_attempts=3) == [claim.run_id]
    async with queued.database.pool.acquire() as connection:
        assert await connection.fetchval(FLUSH_ROWS, [claim.run_id], [claim.token], *Rows().parameters()) == []


async def test_a_finish_that_meets_a_takeover_half_way_writes_nothing(queued: QueueWorld) -> None:
    claim = await queued.opened()
    async with locked(queued, claim.thread_id) as other:
        finishing = asyncio.create_task(queued.queue.finish(claim, Outcome.success(), STATE))
        await waiting_for_a_lock(queued)
        await other.execute(
            "UPDATE heddle.run SET lease_token = gen_random_uuid(), attempt = 2 WHERE run_id = $1", claim.run_id
        )
    assert not (await finishing).held
    assert (await queued.run_row(claim.run_id))["status"] == "running"
    assert (await queued.thread_row(claim.thread_id))["values"] is None


async def test_a_lost_claim_cannot_hide_behind_the_one_that_followed_it(queued: QueueWorld) -> None:
    zombie = await queued.opened()
    await queued.let_the_lease_lapse(zombie)
    await queued.queue.reap(max_attempts=3)
    (owner,) = await queued.claimed()
    assert isinstance(zombie.ledger, Ledger)
    zombie.ledger.put_writes("", "c", "zombie", [a_write(zombie, "zombie")])
    late, ours = await asyncio.gather(
        queued.queue.finish(zombie, Outcome.released(), None), queued.queue.finish(owner, Outcome.success(), STATE)
    )
    assert (late.held, ours.held) == (False, True)
    assert (await queued.run_row(owner.run_id))["status"] == "success"
    assert await queued.one("SELECT count(*) FROM checkpoint_writes") == 0


async def test_a_cancelled_finish_is_written_all_the_same(queued: QueueWorld) -> None:
    claim = await queued.opened()
    async with locked(queued, claim.thread_id):
        finishing = asyncio.create_task(queued.queue.finish(claim, Outcome.success(), STATE))
        await waiting_for_a_lock(queued)
        finishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finishing
    await queued.queue.aclose()
    assert (await queued.run_row(claim.run_id))["status"] == "success"


async def test_a_run_opened_for_a_caller_who_is_gone_goes_back_to_the_queue(queued: QueueWorld) -> None:
    thread = new_thread_id()
    await queued.sql("INSERT INTO heddle.thread (thread_id) VALUES ($1)", thread)
    new = new_run(thread)
    async with locked(queued, thread):
        opening = asyncio.create_task(queued.queue.open(new, lease=LEASE))
        await waiting_for_a_lock(queued)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    async def given_back() -> Claim | None:
        return next(iter(await queued.claimed()), None)

    claim = await soon(given_back)
    assert (claim.run_id, claim.attempt) == (new.run_id, 2)


async def test_a_lapsed_lease_that_is_still_held_is_extended(queued: QueueWorld) -> None:
    claim = await queued.opened(lease=timedelta(milliseconds=1))
    assert (await queued.queue.heartbeat([claim], lease=LEASE))[0].held
    assert await queued.queue.reap(max_attempts=3) == []
