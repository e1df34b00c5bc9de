"""A run that this process executes right now, and the ways to stop it.

The graph runs in a task of its own and is cancelled at most once (run-engine T9): the first reason to stop wins,
except that a rollback outranks an interrupt that has not taken effect, and a lost lease outranks everything, since
nothing may be written any more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from heddle_core.domain.json import Encoded
from heddle_core.domain.run import CancelAction
from heddle_core.ports.event_log import EventWriter
from heddle_core.ports.run_queue import Claim


class StopReason(StrEnum):
    INTERRUPT = "interrupt"
    ROLLBACK = "rollback"
    TIMEOUT = "timeout"
    DRAIN = "drain"  # the process is stopping: the run goes back to pending
    LEASE_LOST = "lease_lost"


_RANK = {
    StopReason.DRAIN: 0,
    StopReason.TIMEOUT: 1,
    StopReason.INTERRUPT: 1,
    StopReason.ROLLBACK: 2,
    StopReason.LEASE_LOST: 3,
}


@dataclass(slots=True, eq=False, kw_only=True)
class LiveRun:
    """`lease_until` is on this process's clock, measured from before the statement that extended it."""

    claim: Claim
    log: EventWriter
    lease_until: float
    graph: asyncio.Task[Encoded] | None = None
    reason: StopReason | None = None
    settled: bool = False  # its outcome is being written: too late to stop it

    def fields(self, **more: object) -> dict[str, object]:
        """What every log line about this run carries."""
        claim = self.claim
        ids = {"run_id": str(claim.run_id), "thread_id": str(claim.thread_id), "attempt": claim.attempt}
        return {**ids, **more}

    def stop(self, reason: StopReason) -> None:
        if self.settled and reason is not StopReason.LEASE_LOST:
            return
        if self.reason is not None:
            if _RANK[reason] > _RANK[self.reason]:
                self.reason = reason
            return
        self.reason = reason
        if self.graph is not None and not self.settled:
            self.graph.cancel()

    def cancel(self, action: CancelAction) -> None:
        self.stop(StopReason.ROLLBACK if action is CancelAction.ROLLBACK else StopReason.INTERRUPT)
