"""The run row as a queue, on Postgres (`ports.run_queue`).

Opens and closes of runs that wait at the same time share statements and commits. Every write runs in a task of this
object, so a cancelled caller never cuts one short; a run that was opened or claimed for a caller who is gone is handed
back to the queue. A statement that met a broken connection is sent once more: each of them can tell whether its first
try was committed.

If a run was interrupted while its owner was already finishing it, the owner's outcome stands; a rollback is honoured
up to the commit that ends the run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg

from heddle_core.domain.errors import HeddleError
from heddle_core.domain.ids import RunId
from heddle_core.domain.run import CancelAction, IfNotExists, NewRun, Outcome, Run, RunKwargs, RunStatus
from heddle_core.domain.thread import StateSummary
from heddle_core.ports.run_queue import Beat, Claim, Claimed, Finished, NotOpened
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.named_sql import statements
from heddle_server.storage.repeating import fetch
from heddle_server.storage.run_closing import RunCloser
from heddle_server.storage.run_codec import asked_checkpoint, decode_kwargs, encode_kwargs
from heddle_server.storage.run_record import encoded, run_of
from heddle_server.storage.together import Together, Waiting, Writes

__all__ = ["PostgresRunQueue"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_SQL = statements("run_queue.sql")
_MOST_OPENS = 32
_LOCKED = "locked"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    """A run to open, with the arguments of `open_run`."""

    new: NewRun
    token: UUID
    arguments: tuple[Any, ...]


class PostgresRunQueue:
    """`pool` is the hot pool. Leave it with `aclose`, which waits for the writes under way, before the pool closes.

    `flights` bounds the connections that opens may hold at a time, since they wait for thread rows: heartbeats and
    flushes must find one free.
    """

    def __init__(self, pool: asyncpg.Pool[Any], *, flights: int = 2) -> None:
        self._pool = pool
        self._writes = Writes()
        self._opens: Together[_Opening, Claim | NotOpened] = Together(
            self._send_opens, self._writes, most=_MOST_OPENS, flights=flights
        )
        self._alone = asyncio.Semaphore(flights)
        self._closer = RunCloser(pool, self._writes)

    async def aclose(self) -> None:
        await self._writes.aclose()

    async def open(self, new: NewRun, *, lease: timedelta) -> Claim | NotOpened:
        if new.delay_seconds > 0:
            return NotOpened.BUSY  # a delayed run is never born claimed
        return await self._owned(self._opens.ask(_opening(new, lease)), self._hand_back_opened)

    async def claim(self, free: int, *, lease: timedelta) -> Claimed:
        if free <= 0:
            return Claimed()
        return await self._owned(self._writes.start(self._claim(free, lease)), self._hand_back_claimed)

    async def heartbeat(self, claims: Sequence[Claim], *, lease: timedelta) -> Sequence[Beat]:
        if not claims:
            return ()
        ids, tokens = [claim.run_id for claim in claims], [claim.token for claim in claims]
        rows = await asyncio.shield(self._writes.start(fetch(self._pool, _SQL["heartbeat"], ids, tokens, lease)))
        held = {row["run_id"]: row["cancel_action"] for row in rows}
        return [
            Beat(held=True, cancel=CancelAction(action) if (action := held[run_id]) else None)
            if run_id in held
            else Beat(held=False)
            for run_id in ids
        ]

    async def finish(self, claim: Claim, outcome: Outcome, state: StateSummary | None) -> Finished:
        return await asyncio.shield(self._writes.start(self._closer.finish(claim, outcome, state)))

    async def reap(self, *, max_attempts: int, limit: int = 100) -> Sequence[RunId]:
        rows = await asyncio.shield(self._writes.start(fetch(self._pool, _SQL["reap"], max_attempts, limit)))
        return [RunId(row[0]) for row in rows]

    async def _owned(self, work: asyncio.Future[_T], hand_back: Callable[[_T], None]) -> _T:
        """Wait for a write. If the caller goes away, it ends all the same and its result is handed back."""
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(
                lambda done: None if done.cancelled() or done.exception() else hand_back(done.result())
            )
            raise

    def _hand_back_opened(self, opened: Claim | NotOpened) -> None:
        if isinstance(opened, Claim):
            self._writes.start(self._release(opened))

    def _hand_back_claimed(self, claimed: Claimed) -> None:
        for claim in claimed.claims:
            self._writes.start(self._release(claim))

    async def _release(self, claim: Claim) -> None:
        try:
            await self._closer.finish(claim, Outcome.released(), None)
        except HeddleError as problem:  # its lease will lapse, and the sweeper gives it back
            _log.warning("run_not_released", extra={"run_id": str(claim.run_id), "problem": problem.message})

    async def _send_opens(self, group: Sequence[Waiting[_Opening, Claim | NotOpened]]) -> None:
        if len(group) == 1:
            await self._open_alone(group[0])
            return
        group = sorted(group, key=lambda waiting: waiting.ask.new.thread_id)
        columns = zip(*(waiting.ask.arguments for waiting in group), strict=True)
        try:
            rows = await fetch(self._pool, _SQL["open_runs"], *columns)
        except (asyncpg.PostgresError, ValueError):
            # Something in one of them is refused by the database: only its own caller is to hear of it.
            for waiting in group:
                self._writes.start(self._open_alone(waiting))
            return
        for row in rows:
            waiting = group[row["place"] - 1]
            if row["refusal"] == _LOCKED:
                self._writes.start(self._open_alone(waiting))
            else:
                waiting.answer(_opened(waiting.ask, row))

    async def _open_alone(self, waiting: Waiting[_Opening, Claim | NotOpened]) -> None:
        try:
            async with self._alone:
                rows = await fetch(self._pool, _SQL["open_run"], *waiting.ask.arguments)
            waiting.answer(_opened(waiting.ask, rows[0]))
        except Exception as error:  # it belongs to the caller, who raises it
            waiting.fail(error)

    async def _claim(self, free: int, lease: timedelta) -> Claimed:
        tokens = [uuid4() for _ in range(free)]
        rows = await fetch(self._pool, _SQL["claim"], tokens, lease, False, again=(tokens, lease, True))
        *taken, last = rows
        due = last["next_due"]
        return Claimed(
            claims=tuple(_claimed(row) for row in taken),
            next_due=None if due is None else max(due, timedelta()),
        )


def _opening(new: NewRun, lease: timedelta) -> _Opening:
    token = uuid4()
    return _Opening(
        new=new,
        token=token,
        arguments=(
            new.run_id,
            new.thread_id,
            new.assistant_id,
            new.assistant_version,
            new.graph_id,
            new.metadata.decode(),
            encode_kwargs(new.kwargs).decode(),
            new.multitask_strategy,
            new.kwargs.resumable,
            new.ephemeral,
            new.ephemeral or new.if_not_exists is IfNotExists.CREATE,
            token,
            lease,
            asked_checkpoint(new.kwargs),
        ),
    )


def _opened(opening: _Opening, row: asyncpg.Record) -> Claim | NotOpened:
    if row["refusal"] is not None:
        return NotOpened(row["refusal"])
    new = opening.new
    run = Run(
        run_id=new.run_id,
        thread_id=new.thread_id,
        assistant_id=new.assistant_id,
        graph_id=new.graph_id,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        status=RunStatus.RUNNING,
        metadata=encoded(row["metadata"]),
        kwargs=encoded(opening.arguments[6]),
        multitask_strategy=new.multitask_strategy,
        attempt=1,
        resumable=new.kwargs.resumable,
        ephemeral=new.ephemeral,
    )
    return _claim_of(run, new.kwargs, opening.token, row)


def _claimed(row: asyncpg.Record) -> Claim:
    return _claim_of(run_of(dict(row), status=RunStatus.RUNNING), decode_kwargs(row["kwargs"]), row["lease_token"], row)


def _claim_of(run: Run, kwargs: RunKwargs, token: UUID, row: asyncpg.Record) -> Claim:
    ledger = Ledger(run.run_id, run.thread_id, token, kwargs.durability)
    ledger.preload(row)
    return Claim(
        run=run,
        kwargs=kwargs,
        assistant_id=run.assistant_id,
        graph_id=run.graph_id,
        attempt=run.attempt,
        token=token,
        thread_metadata=encoded(row["thread_metadata"]),
        thread_config=encoded(row["thread_config"]),
        already_started=ledger.already_started,
        ledger=ledger,
    )
