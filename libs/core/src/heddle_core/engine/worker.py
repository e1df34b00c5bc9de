"""Look, claim, spawn, drain: the runs of one process.

Slots are counted, not queued: a request reserves one before it opens its run, the loop takes what is left. The loop
clears its flag before it looks, so a wake-up between looking and sleeping is never lost, and it sleeps at most one
poll period, so a lost signal costs that much.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.events import Event
from heddle_core.domain.ids import RunId
from heddle_core.domain.json import encode
from heddle_core.domain.run import CancelAction, Run
from heddle_core.engine.executor import Executor
from heddle_core.engine.lease import LeaseKeeper
from heddle_core.engine.live import LiveRun, StopReason
from heddle_core.engine.sweeper import sweep
from heddle_core.ports.clock import Clock
from heddle_core.ports.event_log import EventLog
from heddle_core.ports.graph_runtime import GraphRunner
from heddle_core.ports.run_queue import Claim, RunQueue
from heddle_core.ports.signals import SignalKind, Signals
from heddle_core.usecases.context import Limits

_log = logging.getLogger(__name__)

_CLAIM_AT_ONCE = 10
"""Slots held while a claim is under way; the others stay open for runs that arrive meanwhile."""


class Worker:
    """Implements `ports.local_runs.LocalRuns`. Lives inside `async with worker.running():`."""

    def __init__(
        self,
        *,
        queue: RunQueue,
        runner: GraphRunner,
        log: EventLog,
        signals: Signals,
        clock: Clock,
        limits: Limits,
        slots: int,
    ) -> None:
        self._queue = queue
        self._events = log
        self._signals = signals
        self._clock = clock
        self._limits = limits
        self._slots = slots
        self._free = slots
        self._live: dict[RunId, LiveRun] = {}
        self._remembered: dict[RunId, Run] = {}
        self._executor = Executor(queue, runner, log, clock, limits)
        self._lease = LeaseKeeper(queue, self._live.values, clock, limits)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._grace_is_over = False
        self._backlog = False  # there may be pending runs that found no room here
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def active(self) -> int:
        return self._slots - self._free

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def is_draining(self) -> bool:
        return self._draining

    def reserve(self) -> bool:
        if self._draining or self._tasks is None:
            return False
        if self._free == 0:
            self._backlog = True
            return False
        self._free -= 1
        self._idle.clear()
        return True

    def release(self) -> None:
        self._free += 1
        if self._free == self._slots:
            self._idle.set()
        if self._backlog:
            self._wake.set()

    def start(self, claim: Claim, *, since: float) -> None:
        if self._tasks is None:
            raise RuntimeError("the worker is not running")
        writer = self._events.begin(claim.run_id, claim.attempt, retain=claim.run.resumable)
        live = LiveRun(claim=claim, log=writer, lease_until=self._lease.first_deadline(since))
        self._live[claim.run_id] = live
        # Said before anybody can join, so that a reader either has it in the log or knows that it came too late.
        writer.append([Event("metadata", encode({"run_id": str(claim.run_id), "attempt": claim.attempt}))])
        if self._grace_is_over:
            live.stop(StopReason.DRAIN)  # it was opened while the last runs were given back: it goes the same way
        # A context of its own: what one run binds, another must not see.
        self._tasks.create_task(self._execute(live), context=copy_context())

    def wake(self) -> None:
        self._wake.set()

    def has(self, run_id: RunId) -> bool:
        return run_id in self._live

    def recall(self, run_id: RunId) -> Run | None:
        live = self._live.get(run_id)
        return live.claim.run if live else self._remembered.get(run_id)

    def cancel(self, run_id: RunId, action: CancelAction) -> bool:
        live = self._live.get(run_id)
        if live is None:
            return False
        live.cancel(action)
        return True

    def lose(self, run_id: RunId) -> None:
        """The storage found this run's lease gone: stop it at once (run-engine T1)."""
        if live := self._live.get(run_id):
            live.stop(StopReason.LEASE_LOST)

    async def _execute(self, live: LiveRun) -> None:
        try:
            finished = await self._executor.execute(live)
            if finished.successor_due:
                self._wake.set()
        except Exception:
            # A fault of ours must not take the other runs down: the lease lapses and the sweeper gives the run back.
            _log.exception("run_broke_the_engine", extra=live.fields())
            self._events.end(live.claim.run_id, live.claim.attempt, None, keep=self._limits.keep_events)
        finally:
            if self._live.get(live.claim.run_id) is live:  # a run given back may have been claimed again already
                del self._live[live.claim.run_id]
            self._remember(live.claim.run)
            self.release()

    def _remember(self, run: Run) -> None:
        """The row of a stateless run goes with it; who resumes its stream must still find it."""
        if run.ephemeral and run.resumable:
            self._remembered[run.run_id] = run
            asyncio.get_running_loop().call_later(
                self._limits.keep_events.total_seconds(), self._remembered.pop, run.run_id, None
            )

    def begin_drain(self) -> None:
        """Take no more work. Runs go on; `running()` ends them when its grace is over."""
        if not self._draining:
            self._draining = True
            _log.info("draining", extra={"runs": self.active})

    async def drain(self, seconds: float) -> None:
        """Let runs finish for so long, then give the rest back to the queue."""
        self.begin_drain()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("grace_over", extra={"runs": [str(run_id) for run_id in self._live]})
        self._grace_is_over = True
        for live in tuple(self._live.values()):
            live.stop(StopReason.DRAIN)
        await self._idle.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Worker]:
        async with asyncio.TaskGroup() as runs:
            self._tasks = runs
            duties = [
                runs.create_task(self._always(self._look)),
                runs.create_task(self._always(self._listen)),
                runs.create_task(self._always(self._lease.keep)),
                runs.create_task(self._always(lambda: sweep(self._queue, self._clock, self._limits))),
            ]
            try:
                yield self
            finally:
                await self.drain(self._limits.grace.total_seconds())
                for duty in duties:
                    duty.cancel()
                self._tasks = None

    async def _always(self, duty: Callable[[], Coroutine[None, None, None]]) -> None:
        """Start a duty again when a fault of ours ends it: a process that stopped looking would be worse."""
        while True:
            try:
                await duty()
            except Exception:
                _log.exception("duty_failed")
            await self._clock.sleep(1.0)

    async def _look(self) -> None:
        pause = 0.0
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            pause = await self._claim() if not self._draining else 1.0

    async def _claim(self) -> float:
        """Claim what there is room for; returns how long to sleep."""
        poll = self._limits.poll.total_seconds()
        reserved = 0
        while reserved < _CLAIM_AT_ONCE and self.reserve():
            reserved += 1
        if not reserved:
            return poll
        before = self._clock.monotonic()
        claims: Sequence[Claim] = ()
        try:
            claimed = await self._queue.claim(reserved, lease=self._limits.lease)
            claims = claimed.claims
        except Unavailable as problem:
            _log.warning("claim_failed", extra={"problem": problem.message})
            return poll
        finally:
            self._backlog = len(claims) == reserved
            self._give_back(reserved - len(claims))
        for claim in claims:
            self.start(claim, since=before)
        if self._backlog:
            return 0.0
        if claimed.next_due is not None:
            return max(0.0, min(poll, claimed.next_due.total_seconds()))
        return poll

    def _give_back(self, slots: int) -> None:
        for _ in range(slots):
            self.release()

    async def _listen(self) -> None:
        async for signal in self._signals.listen():
            match signal.kind:
                case SignalKind.RUN_READY:
                    self._wake.set()
                case SignalKind.CANCEL:
                    if signal.run_id in self._live:
                        self._lease.hurry()
                case SignalKind.RUN_ENDED:
                    self._events.poke(signal.run_id)
                case SignalKind.WAKE:
                    self._wake.set()
                    self._lease.hurry()
                    self._events.poke(None)
