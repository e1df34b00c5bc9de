"""The run queue with everything at once: no deadlock, and one run at a time on a thread."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

from heddle_core.domain.ids import new_thread_id
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import CancelAction, MultitaskStrategy, Outcome
from heddle_core.domain.thread import StateSummary
from heddle_core.ports.run_queue import Claim
from heddle_server.storage.rows import FLUSH_ROWS, Rows
from heddle_server.storage.run_queue import PostgresRunQueue
from tests.support.queue_world import LEASE, QueueWorld, a_write, new_run

STATE = StateSummary(values=Encoded(b"{}"), checkpoint_id="c")


async def test_heartbeats_in_any_order_meet_flushes_without_a_deadlock(queued: QueueWorld) -> None:
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
    assert await queued.deadlocks() == 0


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
        rows = Rows(writes=[a_write(claim, str(uuid4())) for claim in some])
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
    storm = Storm(queued, 6.0)
    await storm.run()
    assert await queued.deadlocks() == 0
    assert storm.finished > 50
    assert storm.refused > 0
