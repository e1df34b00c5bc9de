from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.ids import new_thread_id
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import CancelAction, MultitaskStrategy, Outcome
from heddle_core.domain.thread import StateSummary
from heddle_core.ports.run_queue import Claim, NotOpened
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.rows import FLUSH_ROWS, Rows
from heddle_server.storage.run_queue import PostgresRunQueue
from tests.support.queue_world import DEADLINE, LEASE, QueueWorld, new_run, soon

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
    zombie.ledger.put_writes("", "c", "zombie", [write(zombie, "zombie")])
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


async def test_an_open_whose_answer_was_lost_is_found_by_its_second_try(queued: QueueWorld) -> None:
    new, token = new_run(), uuid4()
    call = (
        "SELECT * FROM heddle.open_run($1, $2, $3, 1, 'echo', '{}', '{}', 'enqueue', false, false, true, $4, $5,"
        " NULL, false)"
    )
    arguments = (new.run_id, new.thread_id, new.assistant_id, token, LEASE)
    first = await queued.database.pool.fetchrow(call, *arguments)
    again = await queued.database.pool.fetchrow(call, *arguments)
    assert first is not None
    assert again is not None
    assert (again["refusal"], again["created_at"]) == (None, first["created_at"])
    stranger = await queued.database.pool.fetchrow(call, *arguments[:3], uuid4(), LEASE)
    assert stranger is not None
    assert stranger["refusal"] == "busy"


async def killed(world: QueueWorld) -> None:
    """End every other connection to the database, as a restart of the server would."""
    connection = await asyncpg.connect(**world.address.asyncpg_kwargs())
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


async def test_work_goes_on_after_every_connection_was_killed(queued: QueueWorld) -> None:
    claims = [await queued.opened() for _ in range(3)]
    await killed(queued)
    assert all(beat.held for beat in await queued.queue.heartbeat(claims, lease=LEASE))
    await killed(queued)
    answers = await asyncio.gather(*(queued.queue.finish(claim, Outcome.success(), STATE) for claim in claims))
    assert all(finished.held for finished in answers)
    await killed(queued)
    await queued.opened()
    async with queued.runs() as runs:
        assert await runs.find(claims[0].run_id) is not None


class AnswerLost:
    """The hot pool, but the answer to the first call of a function is lost with its connection, after the commit."""

    def __init__(self, pool: asyncpg.Pool[Any], function: str = "close_runs") -> None:
        self._pool = pool
        self._function = function
        self.lost = 0

    async def expire_connections(self) -> None:
        await self._pool.expire_connections()

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        rows = await self._pool.fetch(statement, *arguments)
        if self._function in statement and not self.lost:
            self.lost += 1
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return rows


@pytest.mark.parametrize("function", ["open_run(", "claim_runs"])
async def test_a_run_is_not_lost_with_the_answer_that_gave_it(queued: QueueWorld, function: str) -> None:
    pool = AnswerLost(queued.database.pool, function)
    queue = PostgresRunQueue(pool)  # type: ignore[arg-type]
    new = new_run()
    if function == "claim_runs":
        await queued.enqueued(new)
        (claim,) = (await queue.claim(3, lease=LEASE)).claims
    else:
        opened = await queue.open(new, lease=LEASE)
        assert isinstance(opened, Claim)
        claim = opened
    assert (pool.lost, claim.run_id, claim.attempt) == (1, new.run_id, 1)
    assert (await queue.heartbeat([claim], lease=LEASE))[0].held


@pytest.mark.parametrize("ephemeral", [False, True])
@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.success(),
        Outcome.failed(Encoded(b'{"error": "E"}')),
        Outcome.released(),
        Outcome.cancelled(CancelAction.ROLLBACK),
    ],
    ids=lambda outcome: outcome.kind,
)
async def test_a_close_whose_answer_was_lost_is_known_to_be_ours(
    queued: QueueWorld, outcome: Outcome, ephemeral: bool
) -> None:
    pool = AnswerLost(queued.database.pool)
    queue = PostgresRunQueue(pool)  # type: ignore[arg-type]
    claim = await queued.opened(new_run(ephemeral=ephemeral))
    assert (await queue.finish(claim, outcome, STATE)).held
    assert pool.lost == 1


async def test_a_takeover_is_not_mistaken_for_our_own_lost_answer(queued: QueueWorld) -> None:
    claim = await queued.opened()
    await queued.let_the_lease_lapse(claim)
    await queued.queue.reap(max_attempts=1)  # ends as an error, in the same attempt
    queue = PostgresRunQueue(AnswerLost(queued.database.pool))  # type: ignore[arg-type]
    assert not (await queue.finish(claim, Outcome.failed(Encoded(b'{"error": "mine"}')), STATE)).held


class Away:
    """The hot pool while the database is down."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool
        self.down = True

    async def expire_connections(self) -> None:
        await self._pool.expire_connections()

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        if self.down:
            raise ConnectionRefusedError
        return await self._pool.fetch(statement, *arguments)


async def test_an_outcome_waits_for_a_database_that_is_away(queued: QueueWorld) -> None:
    pool = Away(queued.database.pool)
    queue = PostgresRunQueue(pool)  # type: ignore[arg-type]
    claim = await queued.opened()
    assert isinstance(claim.ledger, Ledger)
    claim.ledger.put_writes("", "c", "task", [write(claim, "task")])
    for _ in range(2):
        with pytest.raises(Unavailable):
            await queue.finish(claim, Outcome.success(), STATE)
    pool.down = False
    assert (await queue.finish(claim, Outcome.success(), STATE)).held
    assert await queued.one("SELECT count(*) FROM checkpoint_writes") == 1


def write(claim: Claim, task: str, channel: str = "ch") -> tuple[Any, ...]:
    return (claim.run_id, str(claim.thread_id), "", "c", task, "", 0, channel, "null", b"")


NULL_TASK = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("outcome", "stored"),
    [
        (Outcome.success(), {"task", NULL_TASK}),
        (Outcome.released(), {"task"}),
        (Outcome.cancelled(CancelAction.ROLLBACK), set()),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
async def test_what_an_unfinished_resume_wrote_is_stored_only_when_its_run_is_over(
    queued: QueueWorld, outcome: Outcome, stored: set[str]
) -> None:
    claim = await queued.opened()
    assert isinstance(claim.ledger, Ledger)
    for task in ("task", NULL_TASK):
        claim.ledger.put_writes("", "c", task, [write(claim, task)])
    await queued.queue.finish(claim, outcome, None)
    assert {row["task_id"] for row in await queued.sql("SELECT task_id FROM checkpoint_writes")} == stored


async def test_a_close_waits_for_the_flush_of_its_run_that_is_under_way(queued: QueueWorld) -> None:
    claim = await queued.opened()
    ledger = claim.ledger
    assert isinstance(ledger, Ledger)
    ledger.put_writes("", "c", "early", [write(claim, "early")])
    rows = ledger.take()
    assert rows is not None
    finishing = asyncio.create_task(queued.queue.finish(claim, Outcome.success(), STATE))
    own = await queued.database.pool.fetchval(FLUSH_ROWS, [claim.run_id], [claim.token], *rows.parameters())
    assert own == [claim.run_id]
    assert not finishing.done()
    ledger.landed()
    assert (await finishing).held
    assert await queued.one("SELECT count(*) FROM checkpoint_writes") == 1


async def test_one_run_that_the_database_refuses_fails_alone(queued: QueueWorld) -> None:
    claims = [await queued.opened() for _ in range(3)]
    assert isinstance(claims[1].ledger, Ledger)
    claims[1].ledger.put_writes("", "c", "task", [write(claims[1], "task", "nul\x00in a channel")])
    answers = await asyncio.gather(*(queued.queue.finish(claim, Outcome.success(), STATE) for claim in claims))
    assert all(finished.held for finished in answers)
    assert [(await queued.run_row(claim.run_id))["status"] for claim in claims] == ["success", "error", "success"]
    assert (await queued.thread_row(claims[1].thread_id))["status"] == "error"


async def test_a_refused_open_fails_alone(queued: QueueWorld) -> None:
    answers = await asyncio.gather(
        queued.queue.open(new_run(), lease=LEASE),
        queued.queue.open(new_run(metadata=Encoded(b'{"a": "\\u0000"}')), lease=LEASE),
        queued.queue.open(new_run(), lease=LEASE),
        return_exceptions=True,
    )
    assert [isinstance(answer, Claim) for answer in answers] == [True, False, True]
    assert isinstance(answers[1], asyncpg.PostgresError)


async def test_heartbeats_in_any_order_meet_flushes_without_a_deadlock(queued: QueueWorld) -> None:
    before = deadlocks(queued)
    claims = [await queued.opened() for _ in range(40)]
    rng = random.Random(1)
    end = asyncio.get_running_loop().time() + 1.5

    async def beat() -> None:
        while asyncio.get_running_loop().time() < end:
            mixed = rng.sample(claims, len(claims))
            assert all(beat.held for beat in await queued.queue.heartbeat(mixed, lease=LEASE))

    async def flush() -> None:
        while asyncio.get_running_loop().time() < end:
            mixed = rng.sample(claims, len(claims))
            own = await queued.database.pool.fetchval(
                FLUSH_ROWS, [c.run_id for c in mixed], [c.token for c in mixed], *Rows().parameters()
            )
            assert len(own) == len(claims)

    await asyncio.gather(beat(), beat(), flush(), flush())
    assert deadlocks(queued) == before


def deadlocks(world: QueueWorld) -> int:
    """Counted in the server's log: the queue repeats a statement that met one, so no error need be seen here."""
    return (world.address.folder / "log").read_text().count("deadlock detected")


class Storm:
    """Everything at once on a few threads, for a while. Each part notes what it did."""

    def __init__(self, world: QueueWorld, seconds: float) -> None:
        self.world = world
        self.rng = random.Random(7)
        self.threads = [new_thread_id() for _ in range(12)]
        self.queues = [world.queue, *(PostgresRunQueue(world.database.pool) for _ in range(2))]
        self.mine: dict[object, Claim] = {}
        self.refused = 0
        self.finished = 0
        self.clock = asyncio.get_running_loop().time
        self.end = self.clock() + seconds

    async def run(self) -> None:
        parts = [self.open, self.open, self.claim, self.flush, self.close, self.close, self.beat, self.take, self.look]
        await asyncio.gather(*(self.always(part) for part in (*parts, self.enqueue)))

    async def always(self, part: Any) -> None:
        while self.clock() < self.end:
            await part()
            await asyncio.sleep(0)

    async def open(self) -> None:
        news = [new_run(self.rng.choice(self.threads)) for _ in range(3)]
        queue = self.rng.choice(self.queues)
        for opened in await asyncio.gather(*(queue.open(new, lease=LEASE) for new in news)):
            if isinstance(opened, Claim):
                self.mine[opened.token] = opened

    async def enqueue(self) -> None:
        new = new_run(self.rng.choice(self.threads), multitask_strategy=self.rng.choice(list(MultitaskStrategy)))
        async with self.transaction() as runs:
            found = await runs._connection.exec_driver_sql(
                "SELECT thread_id FROM heddle.thread WHERE thread_id = $1 FOR UPDATE", (new.thread_id,)
            )
            if found.first() is None:
                return
            inflight = await runs.inflight(new.thread_id)
            if len(inflight) > 5:
                return
            await runs.insert(new)
            if new.multitask_strategy in (MultitaskStrategy.INTERRUPT, MultitaskStrategy.ROLLBACK):
                await runs.cancel(inflight, CancelAction(new.multitask_strategy))

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        return self.world.runs()

    async def claim(self) -> None:
        for claim in (await self.rng.choice(self.queues).claim(4, lease=LEASE)).claims:
            self.mine[claim.token] = claim

    def some(self) -> Sequence[Claim]:
        return self.rng.sample(list(self.mine.values()), min(6, len(self.mine)))

    async def flush(self) -> None:
        some = list({claim.run_id: claim for claim in self.some()}.values())
        rows = Rows(writes=[write(claim, str(uuid4())) for claim in some])
        own = await self.world.database.pool.fetchval(
            FLUSH_ROWS, [c.run_id for c in some], [c.token for c in some], *rows.parameters()
        )
        self.refused += len(some) - len(own)

    async def close(self) -> None:
        some = self.some()
        for claim in some:
            self.mine.pop(claim.token, None)
        outcomes = [
            Outcome.success(),
            Outcome.released(),
            Outcome.failed(Encoded(b'{"error": "E"}')),
            Outcome.cancelled(CancelAction.ROLLBACK),
        ]
        queue = self.rng.choice(self.queues)
        answers = await asyncio.gather(*(queue.finish(c, self.rng.choice(outcomes), STATE) for c in some))
        self.finished += sum(finished.held for finished in answers)

    async def beat(self) -> None:
        await self.rng.choice(self.queues).heartbeat(self.some(), lease=LEASE)

    async def take(self) -> None:
        """A worker is declared lost while it lives: its claims go on trying."""
        await self.world.let_the_lease_lapse(*self.some()[:2])
        await self.rng.choice(self.queues).reap(max_attempts=4)

    async def look(self) -> None:
        doubles = await self.world.one(
            "SELECT count(*) FROM (SELECT FROM heddle.run WHERE status = 'running' GROUP BY thread_id"
            " HAVING count(*) > 1) d"
        )
        assert doubles == 0
        # Nothing is busy for nothing, and nothing in flight rests.
        wrong = await self.world.one(
            "SELECT count(*) FROM heddle.thread t WHERE (t.status = 'busy') <> EXISTS (SELECT FROM heddle.run r"
            " WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'))"
        )
        assert wrong == 0


async def test_everything_at_once_with_takeovers_never_deadlocks_nor_runs_a_thread_twice(queued: QueueWorld) -> None:
    before = deadlocks(queued)
    storm = Storm(queued, 6.0)
    await storm.run()
    assert deadlocks(queued) == before
    assert storm.finished > 50
    assert storm.refused > 0


async def test_a_lapsed_lease_that_is_still_held_is_extended(queued: QueueWorld) -> None:
    claim = await queued.opened(lease=timedelta(milliseconds=1))
    assert (await queued.queue.heartbeat([claim], lease=LEASE))[0].held
    assert await queued.queue.reap(max_attempts=3) == []
