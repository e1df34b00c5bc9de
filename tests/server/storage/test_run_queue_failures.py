"""The run queue when connections, answers or rows are lost."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import CancelAction, Outcome
from heddle_core.domain.thread import StateSummary
from heddle_core.ports.run_queue import Claim
from heddle_server.storage import functions
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.rows import FLUSH_ROWS
from heddle_server.storage.run_queue import PostgresRunQueue
from tests.support.queue_world import LEASE, QueueWorld, a_write, new_run

STATE = StateSummary(values=Encoded(b"{}"), checkpoint_id="c")


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
    claim.ledger.put_writes("", "c", "task", [a_write(claim, "task")])
    for _ in range(2):
        with pytest.raises(Unavailable):
            await queue.finish(claim, Outcome.success(), STATE)
    pool.down = False
    assert (await queue.finish(claim, Outcome.success(), STATE)).held
    assert await queued.one("SELECT count(*) FROM checkpoint_writes") == 1


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
        claim.ledger.put_writes("", "c", task, [a_write(claim, task)])
    await queued.queue.finish(claim, outcome, None)
    assert {row["task_id"] for row in await queued.sql("SELECT task_id FROM checkpoint_writes")} == stored


async def test_a_close_waits_for_the_flush_of_its_run_that_is_under_way(queued: QueueWorld) -> None:
    claim = await queued.opened()
    ledger = claim.ledger
    assert isinstance(ledger, Ledger)
    ledger.put_writes("", "c", "early", [a_write(claim, "early")])
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
    claims[1].ledger.put_writes("", "c", "task", [a_write(claims[1], "task", "nul\x00in a channel")])
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


async def test_runs_go_on_while_a_migration_replaces_the_functions_under_them(queued: QueueWorld) -> None:
    finished = 0

    async def traffic(migrating: asyncio.Event) -> None:
        nonlocal finished
        while not migrating.is_set() or finished < 50:
            claim = await queued.opened()
            assert (await queued.queue.finish(claim, Outcome.success(), None)).held
            finished += 1

    done = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(traffic(done))
        for _ in range(5):
            async with queued.database.engine.begin() as connection:
                await connection.run_sync(functions.install)
        done.set()
    assert await queued.one("SELECT count(*) FROM heddle.run WHERE status = 'success'") == finished
