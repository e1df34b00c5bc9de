"""Run one claimed run from its start to its outcome.

The order is the promise: the graph ends, then its outcome, its last checkpoints and the thread's status are
committed together, and only then do readers see the end. Whatever the graph does, the row ends; if this process has
lost the lease it writes nothing, and readers are sent to the row.
"""

from __future__ import annotations

import asyncio
import logging
from typing import assert_never

from heddle_core.domain.errors import GraphFailed, HeddleError, LeaseLost, Unavailable
from heddle_core.domain.events import Event
from heddle_core.domain.json import EMPTY_OBJECT, Encoded, encode
from heddle_core.domain.run import CancelAction, Outcome, OutcomeKind
from heddle_core.domain.thread import StateSummary
from heddle_core.engine.live import LiveRun, StopReason
from heddle_core.ports.clock import Clock
from heddle_core.ports.event_log import EventLog
from heddle_core.ports.graph_runtime import GraphRunner
from heddle_core.ports.run_queue import Finished, RunQueue
from heddle_core.usecases.context import Limits

_log = logging.getLogger(__name__)


class Executor:
    """`execute` never raises for anything a run can do; it may be cancelled only when the process dies."""

    def __init__(self, queue: RunQueue, runner: GraphRunner, log: EventLog, clock: Clock, limits: Limits) -> None:
        self._queue = queue
        self._runner = runner
        self._events = log
        self._clock = clock
        self._limits = limits

    async def execute(self, live: LiveRun) -> Finished:
        claim = live.claim
        outcome, result = await self._run_graph(live)
        live.settled = True
        finished = Finished(held=False)
        if live.reason is not StopReason.LEASE_LOST:
            finished, result = await self._settle(live, outcome, result)
            if finished.instead is not None:
                outcome, result = finished.instead, _as_result(finished.instead)
        if not finished.held or outcome.kind is OutcomeKind.RELEASED:
            self._events.end(claim.run_id, claim.attempt, None, keep=self._limits.keep_events)
            _log.warning("run_given_up", extra=live.fields(reason=live.reason, outcome=outcome.kind))
            return finished
        if outcome.error is not None:
            live.log.append([Event("error", outcome.error)])
        self._events.end(claim.run_id, claim.attempt, result, keep=self._limits.keep_events)
        _log.info("run_ended", extra=live.fields(status=outcome.kind))
        return finished

    async def _run_graph(self, live: LiveRun) -> tuple[Outcome, Encoded]:
        graph = live.graph = asyncio.create_task(
            self._runner.run(live.claim, live.log), name=f"run {live.claim.run_id}"
        )
        if live.reason is not None:
            graph.cancel()
        timer = asyncio.get_running_loop().call_later(
            self._limits.run_timeout.total_seconds(), live.stop, StopReason.TIMEOUT
        )
        try:
            await self._until_done(live, graph)
        finally:
            timer.cancel()
        return self._judge(live, graph)

    async def _until_done(self, live: LiveRun, graph: asyncio.Task[Encoded]) -> None:
        patience = self._limits.stubborn.total_seconds()
        while not graph.done():
            await asyncio.wait({graph}, timeout=patience)
            if not graph.done() and live.reason is not None:
                # It swallowed its cancellation or is slow to unwind: one more period, then go on without it.
                await asyncio.wait({graph}, timeout=patience)
                if not graph.done():
                    _log.error("graph_abandoned", extra=live.fields(reason=live.reason))
                    graph.add_done_callback(_forget_failure)
                return

    def _judge(self, live: LiveRun, graph: asyncio.Task[Encoded]) -> tuple[Outcome, Encoded]:
        """What the end of the graph, and the reason it was stopped for, mean for the run."""
        failure: BaseException | None = None
        if graph.done() and not graph.cancelled():
            failure = graph.exception()
            if failure is None and live.reason is not StopReason.ROLLBACK:
                return Outcome.success(), graph.result()
        match live.reason:
            case StopReason.ROLLBACK:
                return Outcome.cancelled(CancelAction.ROLLBACK), EMPTY_OBJECT
            case StopReason.INTERRUPT:
                return Outcome.cancelled(CancelAction.INTERRUPT), EMPTY_OBJECT
            case StopReason.TIMEOUT:
                seconds = self._limits.run_timeout.total_seconds()
                return self._failed(
                    OutcomeKind.TIMEOUT, "TimeoutError", f"The run took longer than {seconds:g} seconds."
                )
            case StopReason.DRAIN:
                return Outcome.released(), EMPTY_OBJECT
            case StopReason.LEASE_LOST:
                return Outcome.released(), EMPTY_OBJECT
            case None:
                return self._judge_failure(live, failure)
        assert_never(live.reason)

    def _judge_failure(self, live: LiveRun, failure: BaseException | None) -> tuple[Outcome, Encoded]:
        match failure:
            case GraphFailed():
                return self._failed(OutcomeKind.ERROR, failure.error, failure.text)
            case LeaseLost():
                live.stop(StopReason.LEASE_LOST)
                return Outcome.released(), EMPTY_OBJECT
            case Unavailable() if live.claim.attempt < self._limits.max_attempts:
                _log.warning("run_retried", extra=live.fields(problem=failure.message))
                return Outcome.released(), EMPTY_OBJECT
            case HeddleError():
                return self._failed(OutcomeKind.ERROR, type(failure).__name__, failure.message)
            case None:  # cancelled by nobody we know: the loop is closing
                return Outcome.released(), EMPTY_OBJECT
            case _:
                _log.error("run_broke_the_engine", exc_info=failure, extra=live.fields())
                return self._failed(OutcomeKind.ERROR, type(failure).__name__, "Internal error; see the server's log.")

    def _failed(self, kind: OutcomeKind, error: str, message: str) -> tuple[Outcome, Encoded]:
        outcome = Outcome(kind=kind, error=encode({"error": error, "message": message}))
        return outcome, _as_result(outcome)

    async def _settle(self, live: LiveRun, outcome: Outcome, result: Encoded) -> tuple[Finished, Encoded]:
        """Write the outcome, trying again while the lease lasts; the statement is safe to repeat."""
        state = await self._summarize(live, outcome)
        if outcome.kind is OutcomeKind.INTERRUPTED and state is not None and state.values is not None:
            result = state.values
        delay = 0.05
        while True:
            try:
                return await self._queue.finish(live.claim, outcome, state), result
            except LeaseLost:
                return Finished(held=False), result
            except Unavailable as problem:
                if self._clock.monotonic() + delay > live.lease_until:
                    _log.error("outcome_not_written", extra=live.fields(problem=problem.message))
                    return Finished(held=False), result
                await self._clock.sleep(delay)
                delay = min(delay * 2, 1.0)

    async def _summarize(self, live: LiveRun, outcome: Outcome) -> StateSummary | None:
        if outcome.kind in (OutcomeKind.ROLLED_BACK, OutcomeKind.RELEASED) or live.claim.run.ephemeral:
            return None
        try:
            async with asyncio.timeout(self._limits.stubborn.total_seconds()):
                return await self._runner.summarize(live.claim)
        except TimeoutError:  # a graph's factory that hangs must not keep the slot
            _log.warning("state_not_readable", extra=live.fields(problem="reading it took too long"))
            return None
        except HeddleError as problem:
            _log.warning("state_not_readable", extra=live.fields(problem=problem.message))
            return None


def _as_result(outcome: Outcome) -> Encoded:
    """What `wait` answers for a run that failed."""
    return EMPTY_OBJECT if outcome.error is None else Encoded(b'{"__error__":' + outcome.error + b"}")


def _forget_failure(task: asyncio.Task[Encoded]) -> None:
    """An abandoned graph's end interests nobody; asking for it keeps the loop from warning."""
    if not task.cancelled():
        task.exception()
