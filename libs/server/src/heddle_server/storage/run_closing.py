"""The end of an attempt: the rest of its checkpoints, its outcome and its thread's status, in one commit.

What a claim leaves is collected once and kept until the database has answered, so `finish` may be repeated after
`Unavailable`. When the answer of a close was lost with its connection, the run's row says whether it was written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import CancelAction, Outcome, OutcomeKind, RunStatus
from heddle_core.domain.thread import StateSummary, resting_status
from heddle_core.ports.run_queue import Claim, Finished
from heddle_server.storage.failures import is_transient, unavailable
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.named_sql import statements
from heddle_server.storage.repeating import prepare_to_repeat
from heddle_server.storage.rows import Rows
from heddle_server.storage.together import Together, Waiting, Writes

__all__ = ["RunCloser"]

_log = logging.getLogger(__name__)
_SQL = statements("run_queue.sql")
_MOST_CLOSES = 64
_KEPT_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closing:
    """One run's end. `row` holds the run's entries in the first arrays of `close_runs`.

    `instead`: the outcome, when it is not the one that was asked for.
    """

    claim: Claim
    outcome: Outcome
    rows: Rows
    row: tuple[Any, ...]
    instead: Outcome | None = None


class RunCloser:
    """Sends closes, several in one statement. Runs on the queue's tasks."""

    def __init__(self, pool: asyncpg.Pool[Any], writes: Writes, *, flights: int = 1) -> None:
        self._pool = pool
        self._closes: Together[_Closing, Finished] = Together(self._send, writes, most=_MOST_CLOSES, flights=flights)
        self._unanswered: dict[UUID, tuple[float, _Closing]] = {}

    async def finish(self, claim: Claim, outcome: Outcome, state: StateSummary | None) -> Finished:
        ledger = claim.ledger
        if not isinstance(ledger, Ledger):
            raise TypeError("a claim of this queue carries a Ledger")
        if _is_lost(ledger):
            return Finished(held=False)
        _, kept = self._unanswered.pop(claim.token, (0.0, None))
        closing = kept or await _collect(claim, ledger, outcome, state)
        if _is_lost(ledger):  # the flush it waited for found out
            return Finished(held=False)
        try:
            return await self._closes.ask(closing)
        except Unavailable:
            self._keep(closing)
            raise

    def _keep(self, closing: _Closing) -> None:
        """For the next try. Those that nobody tried again in a long time have lost their lease."""
        now = time.monotonic()
        for token, (since, _) in tuple(self._unanswered.items()):
            if now - since > _KEPT_SECONDS:
                del self._unanswered[token]
        self._unanswered[closing.claim.token] = now, closing

    async def _send(self, group: Sequence[Waiting[_Closing, Finished]]) -> None:
        # Rows are known by their run. A claim that was lost and the one that followed it must not meet in a statement,
        # or the fence would let the first one's rows in with the second's.
        by_run = {waiting.ask.claim.run_id: waiting for waiting in group}
        if len(by_run) < len(group):
            for waiting in group:
                await self._send([waiting])
            return
        group = sorted(group, key=lambda waiting: waiting.ask.claim.thread_id)
        try:
            finished = await self._write([waiting.ask for waiting in group])
        except (asyncpg.PostgresError, ValueError) as error:
            await self._send_one_by_one(group, error)
            return
        for waiting in group:
            waiting.answer(finished[waiting.ask.claim.run_id])

    async def _send_one_by_one(self, group: Sequence[Waiting[_Closing, Finished]], error: Exception) -> None:
        """The database refuses something in one of these: the others end as they should, that one ends in an error."""
        for waiting in group:
            closing = waiting.ask
            try:
                if len(group) == 1:
                    _log.error("outcome_refused", exc_info=error, extra={"run_id": str(closing.claim.run_id)})
                    closing = _refused(closing, error)
                    waiting.answer((await self._write([closing]))[closing.claim.run_id])
                else:
                    await self._send([waiting])
            except Exception as problem:  # it belongs to the caller, who raises it
                waiting.fail(problem)

    async def _write(self, closings: Sequence[_Closing]) -> dict[UUID, Finished]:
        """One statement; once more after a broken connection. `Unavailable` after the second."""
        arguments = [
            *zip(*(closing.row for closing in closings), strict=True),
            *Rows.merge(closing.rows for closing in closings).parameters(),
        ]
        try:
            return _answers(closings, await self._pool.fetch(_SQL["close_runs"], *arguments))
        except Exception as error:
            await prepare_to_repeat(self._pool, error)
        try:
            answers = _answers(closings, await self._pool.fetch(_SQL["close_runs"], *arguments))
            lost = [closing for closing in closings if not answers[closing.claim.run_id].held]
            if lost:  # lost, or ended by the first try whose answer did not arrive
                ids = [closing.claim.run_id for closing in lost]
                found = {row["run_id"]: row for row in await self._pool.fetch(_SQL["ended_as"], ids)}
                answers |= {c.claim.run_id: _ended(c, found.get(c.claim.run_id)) for c in lost}
        except Exception as error:
            if not is_transient(error):
                raise
            raise unavailable(error) from error
        return answers


def _is_lost(ledger: Ledger) -> bool:
    return ledger.lost


async def _collect(claim: Claim, ledger: Ledger, outcome: Outcome, state: StateSummary | None) -> _Closing:
    """Take what the claim has not stored yet; after this its ledger takes no more."""
    ledger.close()
    await ledger.settle()
    rows = Rows()
    asked = outcome
    match outcome.kind:
        case OutcomeKind.ROLLED_BACK:
            ledger.discard()
        case OutcomeKind.RELEASED:
            # What is held back stays unwritten: the next attempt is given the input or command again.
            rows = ledger.take() or Rows()
            ledger.landed()
            ledger.discard()
        case _ if ledger.error is not None:
            # Its thread stays at what was stored, so its own view of the state is not to be shown.
            outcome, state = _failed(ledger.error, outcome), None
        case _:
            rows = ledger.take_tail()
    closing = _closing(claim, outcome, state, rows, ledger.head)
    return closing if outcome is asked else replace(closing, instead=outcome)


def _closing(claim: Claim, outcome: Outcome, state: StateSummary | None, rows: Rows, head: str | None) -> _Closing:
    saw_state = state is not None and (state.checkpoint_id is not None or state.values is not None)
    over = outcome.kind not in (OutcomeKind.ROLLED_BACK, OutcomeKind.RELEASED)
    resting = None
    if over and (saw_state or outcome.kind in (OutcomeKind.ERROR, OutcomeKind.TIMEOUT)):
        resting = resting_status(outcome.kind, has_next=state is not None and state.has_next)
    return _Closing(
        claim=claim,
        outcome=outcome,
        rows=rows,
        row=(
            claim.run_id,
            claim.thread_id,
            claim.token,
            outcome.kind,
            _text(outcome.error),
            (state.checkpoint_id if state else None) or head,
            saw_state,
            _text(state.values) if state else None,
            _text(state.interrupts) if state else None,
            state.has_next if state else None,
            resting,
        ),
    )


def _failed(error: BaseException, outcome: Outcome) -> Outcome:
    if outcome.kind is not OutcomeKind.SUCCESS:
        return outcome
    message = f"The run's checkpoints could not be stored ({type(error).__name__})."
    return Outcome.failed(Encoded(orjson.dumps({"error": "StorageError", "message": message})))


def _refused(closing: _Closing, error: Exception) -> _Closing:
    """The same end without what the run brought, any of which may be what the database refuses."""
    kind = closing.outcome.kind
    outcome = closing.outcome if kind is OutcomeKind.ROLLED_BACK else _failed(error, Outcome.success())
    return replace(_closing(closing.claim, outcome, None, Rows(), None), instead=outcome)


def _answers(closings: Sequence[_Closing], rows: Sequence[asyncpg.Record]) -> dict[UUID, Finished]:
    written = {row["run_id"]: row for row in rows}
    return {c.claim.run_id: _answered(c, written.get(c.claim.run_id)) for c in closings}


def _answered(closing: _Closing, row: asyncpg.Record | None) -> Finished:
    if row is None:
        return Finished(held=False)
    instead = closing.instead
    if row["kind"] == OutcomeKind.ROLLED_BACK and closing.outcome.kind is not OutcomeKind.ROLLED_BACK:
        instead = Outcome.cancelled(CancelAction.ROLLBACK)
    return Finished(held=True, successor_due=row["successor_due"], instead=instead)


def _ended(closing: _Closing, row: asyncpg.Record | None) -> Finished:
    """Was a run that we no longer own ended by us? It is if its row stands as our outcome says it should."""
    kind = closing.outcome.kind
    released = kind is OutcomeKind.RELEASED
    if row is None:  # removed: what a rollback and the end of a hidden thread do
        return Finished(held=kind is OutcomeKind.ROLLED_BACK or (closing.claim.run.ephemeral and not released))
    wanted = RunStatus.PENDING if released else kind.value
    same_error = closing.outcome.error is None or (
        row["error"] is not None and orjson.loads(row["error"]) == orjson.loads(closing.outcome.error)
    )
    held = row["status"] == wanted and row["attempt"] == closing.claim.attempt and same_error
    return Finished(held=held, successor_due=held and row["successor_due"], instead=closing.instead)


def _text(value: Encoded | None) -> str | None:
    return None if value is None else value.decode()
