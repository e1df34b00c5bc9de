"""Give runs back that lost their process, and remove hidden threads whose run is over."""

from __future__ import annotations

import logging

from heddle_core.domain.errors import Unavailable
from heddle_core.ports.clock import Clock
from heddle_core.ports.run_queue import RunQueue
from heddle_core.usecases.context import Limits

_log = logging.getLogger(__name__)


async def sweep(queue: RunQueue, clock: Clock, limits: Limits) -> None:
    """Look at start and then twice per lease, for ever. Any number of processes may do so at once."""
    while True:
        try:
            taken = await queue.reap(max_attempts=limits.max_attempts)
        except Unavailable as problem:
            _log.warning("sweep_failed", extra={"problem": problem.message})
        else:
            if taken:
                _log.warning("leases_ended", extra={"runs": [str(run_id) for run_id in taken]})
        await clock.sleep(limits.lease.total_seconds() / 2)
