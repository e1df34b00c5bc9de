"""Keep the claims of this process alive, or stop the runs before their leases end.

A lease is counted from before the statement that extended it, minus a margin, so this process always stops before
another one may start (the database compares its own times). One statement extends all leases. It also brings cancel
requests that no signal delivered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from heddle_core.domain.errors import Unavailable
from heddle_core.engine.live import LiveRun, StopReason
from heddle_core.ports.clock import Clock
from heddle_core.ports.run_queue import RunQueue
from heddle_core.usecases.context import Limits

_log = logging.getLogger(__name__)


class LeaseKeeper:
    def __init__(self, queue: RunQueue, live: Callable[[], Collection[LiveRun]], clock: Clock, limits: Limits) -> None:
        self._queue = queue
        self._live = live
        self._clock = clock
        self._lease = limits.lease
        self._margin = limits.lease.total_seconds() / 10
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Beat now: a cancel request may be waiting."""
        self._hurry.set()

    def first_deadline(self, before: float) -> float:
        """When a lease taken by a statement begun at `before` must be considered over."""
        return before + self._lease.total_seconds() - self._margin

    async def keep(self) -> None:
        period = self._lease.total_seconds() / 3
        retry = min(1.0, period / 4)
        pause = period
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()
            pause = period if await self._beat() else retry

    async def _beat(self) -> bool:
        runs = list(self._live())  # those whose outcome is being written too: that may take several tries
        if not runs:
            return True
        before = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._lease.total_seconds() / 3):
                beats = await self._queue.heartbeat([run.claim for run in runs], lease=self._lease)
        except (Unavailable, TimeoutError) as problem:
            _log.warning("heartbeat_failed", extra={"problem": str(problem), "runs": len(runs)})
            now = self._clock.monotonic()
            for run in runs:
                if now >= run.lease_until - self._margin:
                    run.stop(StopReason.LEASE_LOST)
            return False
        for run, beat in zip(runs, beats, strict=True):
            if not beat.held:
                run.stop(StopReason.LEASE_LOST)
                continue
            run.lease_until = self.first_deadline(before)
            if beat.cancel is not None:
                run.cancel(beat.cancel)
        return True
