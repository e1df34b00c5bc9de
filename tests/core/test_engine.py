"""The worker and executor against a scripted graph and a queue in memory: every way a run can end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from heddle_core.domain.errors import GraphFailed, Unavailable
from heddle_core.domain.events import BEGINNING, End, Event, StoredEvent
from heddle_core.domain.ids import RunId
from heddle_core.domain.json import EMPTY_OBJECT, Encoded
from heddle_core.domain.run import CancelAction, NewRun, Outcome, OutcomeKind, RunKwargs
from heddle_core.domain.thread import StateSummary
from heddle_core.engine.worker import Worker
from heddle_core.memory.event_log import MemoryEventLog
from heddle_core.ports.event_log import EventWriter
from heddle_core.ports.run_queue import Beat, Claim, Claimed, Finished, NotOpened
from heddle_core.ports.signals import Signal
from heddle_core.usecases.context import Limits
from tests.core.test_rules import a_run

LIMITS = Limits(lease=timedelta(seconds=0.3), poll=timedelta(seconds=0.05), grace=timedelta(seconds=0.2))


def a_claim(attempt: int = 1) -> Claim:
    run = replace(a_run(), attempt=attempt)
    return Claim(
        run=run,
        kwargs=RunKwargs(config={}),
        assistant_id=run.assistant_id,
        graph_id="echo",
        attempt=attempt,
        token=uuid4(),
        thread_metadata=EMPTY_OBJECT,
        thread_config=EMPTY_OBJECT,
        already_started=False,
        ledger=None,
    )


class WallClock:
    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ListQueue:
    """A queue that hands out prepared claims and remembers how they ended."""

    def __init__(self) -> None:
        self.pending: list[Claim] = []
        self.outcomes: dict[RunId, Outcome] = {}
        self.lost: set[RunId] = set()
        self.cancels: dict[RunId, CancelAction] = {}
        self.failures_to_finish = 0
        self.finished = asyncio.Event()
        self.asked = 0

    async def open(self, new: NewRun, *, lease: timedelta) -> Claim | NotOpened:
        raise AssertionError("not used here")

    async def claim(self, free: int, *, lease: timedelta) -> Claimed:
        self.asked += 1
        taken, self.pending = self.pending[:free], self.pending[free:]
        return Claimed(claims=tuple(taken))

    async def heartbeat(self, claims: Sequence[Claim], *, lease: timedelta) -> Sequence[Beat]:
        return [Beat(held=c.run_id not in self.lost, cancel=self.cancels.get(c.run_id)) for c in claims]

    async def finish(self, claim: Claim, outcome: Outcome, state: StateSummary | None) -> Finished:
        if self.failures_to_finish:
            self.failures_to_finish -= 1
            raise Unavailable
        if claim.run_id in self.lost:
            return Finished(held=False)
        self.outcomes[claim.run_id] = outcome
        self.finished.set()
        return Finished(held=True)

    async def reap(self, *, max_attempts: int, limit: int = 100) -> Sequence[RunId]:
        return ()


class Script:
    """A graph: `steps` says what happens; `gate` is what it waits for."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.started = asyncio.Event()
        self.error: BaseException | None = None
        self.stubborn = False
        self.cancellations = 0

    async def run(self, claim: Claim, log: EventWriter) -> Encoded:
        self.started.set()
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancellations += 1
                if not self.stubborn:
                    raise
        if self.error:
            raise self.error
        log.append([Event("custom", Encoded(b'"hello"'))])
        return Encoded(b'{"answer":1}')

    async def summarize(self, claim: Claim) -> StateSummary:
        return StateSummary(values=Encoded(b'{"kept":1}'))


class Silence:
    async def listen(self) -> AsyncIterator[Signal]:
        await asyncio.Event().wait()
        yield Signal  # type: ignore[misc]  # never reached; makes this a generator


class World:
    def __init__(self, slots: int = 2, limits: Limits = LIMITS) -> None:
        self.queue = ListQueue()
        self.graph = Script()
        self.log = MemoryEventLog()
        self.worker = Worker(
            queue=self.queue,
            runner=self.graph,
            log=self.log,
            signals=Silence(),
            clock=WallClock(),
            limits=limits,
            slots=slots,
        )

    def start(self, claim: Claim) -> None:
        self.worker.start(claim, since=asyncio.get_running_loop().time())

    async def outcome(self, claim: Claim) -> Outcome:
        async with asyncio.timeout(5):
            while claim.run_id not in self.queue.outcomes:
                await self.queue.finished.wait()
                self.queue.finished.clear()
        return self.queue.outcomes[claim.run_id]

    async def everything_said(self, claim: Claim) -> list[StoredEvent | End]:
        reader = self.log.read(claim.run_id, BEGINNING)
        items: list[StoredEvent | End] = []
        async with asyncio.timeout(5):
            while not items or not isinstance(items[-1], End):
                await reader.wait(1)
                items += reader.ready()
        return items


@pytest.fixture
def world() -> World:
    return World()


async def test_a_run_says_metadata_then_its_events_then_its_result(world: World) -> None:
    claim = a_claim()
    world.graph.gate.set()
    async with world.worker.running():
        said = asyncio.create_task(world.everything_said(claim))
        await asyncio.sleep(0)
        assert world.worker.reserve()
        world.start(claim)
        items = await said
    names = [item.event.name for item in items if isinstance(item, StoredEvent)]
    assert names == ["metadata", "custom"]
    assert items[-1] == End(Encoded(b'{"answer":1}'))
    assert world.queue.outcomes[claim.run_id].kind is OutcomeKind.SUCCESS


async def test_a_graph_error_becomes_an_outcome_and_one_terminal_event(world: World) -> None:
    claim = a_claim()
    world.graph.gate.set()
    world.graph.error = GraphFailed("ValueError", "boom")
    async with world.worker.running():
        said = asyncio.create_task(world.everything_said(claim))
        await asyncio.sleep(0)
        world.worker.reserve()
        world.start(claim)
        items = await said
    names = [item.event.name for item in items if isinstance(item, StoredEvent)]
    assert names == ["metadata", "error"]
    assert items[-1] == End(Encoded(b'{"__error__":{"error":"ValueError","message":"boom"}}'))


@pytest.mark.parametrize(
    ("action", "kind", "result"),
    [
        (CancelAction.INTERRUPT, OutcomeKind.INTERRUPTED, b'{"kept":1}'),
        (CancelAction.ROLLBACK, OutcomeKind.ROLLED_BACK, b"{}"),
    ],
)
async def test_a_cancelled_run_ends_as_it_was_asked_to(
    world: World, action: CancelAction, kind: OutcomeKind, result: bytes
) -> None:
    claim = a_claim()
    async with world.worker.running():
        world.worker.reserve()
        world.start(claim)
        said = asyncio.create_task(world.everything_said(claim))
        await world.graph.started.wait()
        assert world.worker.cancel(claim.run_id, action)
        items = await said
    assert world.queue.outcomes[claim.run_id].kind is kind
    assert items[-1] == End(Encoded(result))


async def test_a_cancel_that_no_signal_brought_arrives_by_heartbeat(world: World) -> None:
    claim = a_claim()
    world.queue.cancels[claim.run_id] = CancelAction.INTERRUPT
    async with world.worker.running():
        world.worker.reserve()
        world.start(claim)
        assert (await world.outcome(claim)).kind is OutcomeKind.INTERRUPTED


async def test_the_graph_is_cancelled_once_however_often_it_is_asked(world: World) -> None:
    claim = a_claim()
    world.graph.stubborn = True
    async with world.worker.running():
        world.worker.reserve()
        world.start(claim)
        await world.graph.started.wait()
        for _ in range(5):
            world.worker.cancel(claim.run_id, CancelAction.INTERRUPT)
            await asyncio.sleep(0)
        world.graph.gate.set()
        await world.outcome(claim)
    assert world.graph.cancellations == 1


async def test_a_graph_that_will_not_end_is_left_behind() -> None:
    world = World(limits=replace(LIMITS, stubborn=timedelta(seconds=0.05)))
    claim = a_claim()
    world.graph.stubborn = True
    async with world.worker.running():
        world.worker.reserve()
        world.start(claim)
        await world.graph.started.wait()
        world.worker.cancel(claim.run_id, CancelAction.INTERRUPT)
        assert (await world.outcome(claim)).kind is OutcomeKind.INTERRUPTED
    world.graph.gate.set()


async def test_a_run_that_lost_its_lease_writes_nothing_and_sends_readers_to_the_row(world: World) -> None:
    claim = a_claim()
    world.queue.lost.add(claim.run_id)
    async with world.worker.running():
        world.worker.reserve()
        world.start(claim)
        items = await world.everything_said(claim)
    assert items[-1] == End(None)
    assert claim.run_id not in world.queue.outcomes


async def test_an_infrastructure_failure_gives_the_run_back_until_attempts_are_used_up(world: World) -> None:
    first, last = a_claim(attempt=1), a_claim(attempt=LIMITS.max_attempts)
    world.graph.gate.set()
    world.graph.error = Unavailable("the database went away")
    async with world.worker.running():
        for claim in (first, last):
            world.worker.reserve()
            world.start(claim)
        assert (await world.outcome(first)).kind is OutcomeKind.RELEASED
        assert (await world.outcome(last)).kind is OutcomeKind.ERROR


async def test_an_outcome_is_written_again_until_the_database_takes_it(world: World) -> None:
    claim = a_claim()
    world.graph.gate.set()
    world.queue.failures_to_finish = 2
    async with world.worker.running():
        world.worker.reserve()
        world.start(claim)
        assert (await world.outcome(claim)).kind is OutcomeKind.SUCCESS


async def test_a_run_over_its_time_ends_as_timeout() -> None:
    world = World(limits=replace(LIMITS, run_timeout=timedelta(seconds=0.05)))
    claim = a_claim()
    async with world.worker.running():
        world.worker.reserve()
        world.start(claim)
        outcome = await world.outcome(claim)
    assert outcome.kind is OutcomeKind.TIMEOUT


async def test_a_draining_worker_takes_nothing_new_and_gives_back_what_is_not_done(world: World) -> None:
    claim = a_claim()
    async with world.worker.running():
        world.worker.reserve()
        world.start(claim)
        await world.graph.started.wait()
        world.worker.begin_drain()
        assert not world.worker.reserve()
    assert world.queue.outcomes[claim.run_id].kind is OutcomeKind.RELEASED


async def test_a_run_that_is_opened_when_the_grace_is_over_is_given_back_too(world: World) -> None:
    late = a_claim()
    async with world.worker.running():
        assert world.worker.reserve()
        drained = asyncio.create_task(world.worker.drain(0.0))
        async with asyncio.timeout(5):
            while world.worker.reserve():
                world.worker.release()
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)
        world.start(late)
        await asyncio.wait_for(drained, 5)
    assert world.queue.outcomes[late.run_id].kind is OutcomeKind.RELEASED


async def test_pending_runs_are_claimed_up_to_the_free_slots(world: World) -> None:
    claims = [a_claim() for _ in range(5)]
    world.queue.pending = list(claims)
    async with world.worker.running():
        async with asyncio.timeout(5):
            while len(world.queue.pending) > 3:
                await asyncio.sleep(0.01)
        assert world.worker.active == 2
        world.graph.gate.set()
        for claim in claims:
            assert (await world.outcome(claim)).kind is OutcomeKind.SUCCESS


async def test_finishing_runs_do_not_ask_the_queue_when_nothing_waits(world: World) -> None:
    world.graph.gate.set()
    async with world.worker.running():
        async with asyncio.timeout(5):
            while not world.queue.asked:
                await asyncio.sleep(0.01)
        before, started = world.queue.asked, asyncio.get_running_loop().time()
        for _ in range(50):
            claim = a_claim()
            assert world.worker.reserve()
            world.start(claim)
            await world.outcome(claim)
        periods = (asyncio.get_running_loop().time() - started) / LIMITS.poll.total_seconds()
    assert world.queue.asked - before <= periods + 1
