"""Runs in a unit of work (`ports.storage.Runs`). The hot ways in and out are in `run_queue.py`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Label,
    Select,
    Text,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from heddle_core.domain.ids import RunId, ThreadId
from heddle_core.domain.run import CancelAction, NewRun, Run, RunStatus
from heddle_core.domain.thread import Page
from heddle_core.ports.storage import QueueFigures
from heddle_server.storage.run_codec import asked_checkpoint, encode_kwargs
from heddle_server.storage.run_record import run_of
from heddle_server.storage.tables import run, thread

__all__ = ["RunRows"]

_IN_FLIGHT = (RunStatus.PENDING, RunStatus.RUNNING)
_PLAIN = (
    run.c.run_id,
    run.c.thread_id,
    run.c.assistant_id,
    run.c.graph_id,
    run.c.created_at,
    run.c.updated_at,
    run.c.status,
    run.c.multitask_strategy,
    run.c.attempt,
    run.c.head_checkpoint_id,
    run.c.resumable,
    run.c.ephemeral,
)


def _columns(wanted: frozenset[str] | None = None) -> tuple[ColumnElement[Any], ...]:
    """A run's columns, JSON as text. The large ones are empty objects when nobody wants them."""

    def large(column: ColumnElement[Any], name: str) -> Label[Any]:
        asked = wanted is None or name in wanted
        return (cast(column, Text) if asked else literal("{}", Text)).label(name)

    return (
        *_PLAIN,
        large(run.c.metadata, "metadata"),
        large(run.c.kwargs, "kwargs"),
        cast(run.c.error, Text).label("error"),
    )


_EVERYTHING = _columns()
_is_in_flight = run.c.status.in_(_IN_FLIGHT)


class RunRows:
    """Run rows on one connection. The thread row is locked by the caller where the port says so."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def insert(self, new: NewRun) -> Run:
        names = func.jsonb_build_object(
            "graph_id", cast(new.graph_id, Text), "assistant_id", cast(str(new.assistant_id), Text)
        )
        given = cast(literal(new.metadata.decode(), Text), JSONB)
        merged = (
            select(thread.c.metadata.op("||")(given).op("||")(names))
            .where(thread.c.thread_id == new.thread_id)
            .scalar_subquery()
        )
        # The clock, not the transaction's start: a thread's runs are in the order in which its lock was held.
        now = func.clock_timestamp()
        due = now + func.make_interval(0, 0, 0, 0, 0, 0, new.delay_seconds) if new.delay_seconds > 0 else now
        row = await self._one(
            insert(run)
            .values(
                run_id=new.run_id,
                thread_id=new.thread_id,
                assistant_id=new.assistant_id,
                graph_id=new.graph_id,
                status=RunStatus.PENDING,
                metadata=merged,
                kwargs=cast(literal(encode_kwargs(new.kwargs).decode(), Text), JSON),
                multitask_strategy=new.multitask_strategy,
                resumable=new.kwargs.resumable,
                ephemeral=new.ephemeral,
                watched=new.watched,
                created_at=due,
                updated_at=now,
                base_checkpoint_id=asked_checkpoint(new.kwargs),
            )
            .returning(*_EVERYTHING)
        )
        await self._connection.execute(
            update(thread)
            .where(thread.c.thread_id == new.thread_id)
            .values(status="busy", metadata=thread.c.metadata.op("||")(names), updated_at=func.now())
        )
        return row

    async def get(self, thread_id: ThreadId, run_id: RunId) -> Run | None:
        return await self._maybe(select(*_EVERYTHING).where(run.c.run_id == run_id, run.c.thread_id == thread_id))

    async def find(self, run_id: RunId) -> Run | None:
        return await self._maybe(select(*_EVERYTHING).where(run.c.run_id == run_id))

    async def list(self, thread_id: ThreadId, page: Page, status: RunStatus | None) -> Sequence[Run]:
        query = (
            select(*_columns(page.select))
            .where(run.c.thread_id == thread_id)
            .order_by(run.c.created_at.desc(), run.c.run_id.desc())
            .limit(page.limit)
            .offset(page.offset)
        )
        return await self._all(query if status is None else query.where(run.c.status == status))

    async def inflight(self, thread_id: ThreadId) -> Sequence[Run]:
        return await self._all(
            select(*_EVERYTHING)
            .where(run.c.thread_id == thread_id, _is_in_flight)
            .order_by(run.c.created_at, run.c.run_id)
        )

    async def cancel(self, runs: Sequence[Run], action: CancelAction) -> Sequence[RunId]:
        if not runs:
            return []
        found = await self._connection.execute(
            select(run.c.run_id, run.c.thread_id, run.c.status, run.c.ephemeral, run.c.watched)
            .where(run.c.run_id.in_([one.run_id for one in runs]), _is_in_flight)
            .order_by(run.c.run_id)
            .with_for_update(key_share=True)
        )
        rows = found.all()
        running = [RunId(row.run_id) for row in rows if row.status == RunStatus.RUNNING]
        pending = [row for row in rows if row.status == RunStatus.PENDING]
        if running:
            await self._ask_to_stop(running, action)
        if pending:
            await self._end_pending([row.run_id for row in pending], action)
            for row in pending:
                if row.watched:
                    await self._connection.execute(
                        text("SELECT pg_notify('heddle', :payload)"), {"payload": f"run_ended {row.run_id}"}
                    )
            await self._settle({row.thread_id for row in pending})
        return running

    async def inflight_anywhere(self, status: RunStatus | None) -> Sequence[Run]:
        wanted = _is_in_flight if status is None else (run.c.status == status) & _is_in_flight
        return await self._all(
            select(*_EVERYTHING).where(wanted).order_by(run.c.thread_id, run.c.created_at, run.c.run_id)
        )

    async def delete(self, one: Run) -> None:
        newer = run.alias()
        is_last = ~exists().where(
            newer.c.thread_id == one.thread_id,
            tuple_(newer.c.created_at, newer.c.run_id) > tuple_(one.created_at, one.run_id),
        )
        last = (await self._connection.execute(select(is_last))).scalar_one()
        gone = await self._connection.execute(
            delete(run).where(run.c.run_id == one.run_id, ~_is_in_flight).returning(run.c.run_id)
        )
        if gone.first() is None or not last:
            return
        # The outcome of the last run is forgotten with it: what is left is what the checkpoint says.
        await self._connection.execute(
            update(thread)
            .where(thread.c.thread_id == one.thread_id)
            .values(resting_status=case((thread.c.has_next, "interrupted"), else_="idle"), error=null())
        )
        await self._settle({one.thread_id})

    async def figures(self) -> QueueFigures:
        pending = run.c.status == RunStatus.PENDING
        waited = func.max(func.extract("epoch", func.now() - run.c.created_at)).filter(pending)
        found = await self._connection.execute(
            select(func.count().filter(pending), func.count().filter(~pending), waited).where(_is_in_flight)
        )
        waiting, running, longest = found.one()
        seconds = float(longest or 0)
        return QueueFigures(pending=waiting, running=running, longest_wait=timedelta(seconds=max(seconds, 0.0)))

    async def watch(self, run_id: RunId) -> Run | None:
        return await self._maybe(update(run).where(run.c.run_id == run_id).values(watched=True).returning(*_EVERYTHING))

    async def _ask_to_stop(self, running: Sequence[RunId], action: CancelAction) -> None:
        """A rollback that was asked for is not weakened by a later interrupt."""
        stronger = case((run.c.cancel_action == CancelAction.ROLLBACK, run.c.cancel_action), else_=action.value)
        await self._connection.execute(
            update(run)
            .where(run.c.run_id.in_(running), run.c.status == RunStatus.RUNNING)
            .values(cancel_action=stronger, updated_at=func.now())
        )

    async def _end_pending(self, pending: Sequence[Any], action: CancelAction) -> None:
        ids = {"ids": list(pending)}
        if action is CancelAction.INTERRUPT:
            await self._connection.execute(
                update(run)
                .where(run.c.run_id.in_(pending), run.c.status == RunStatus.PENDING)
                .values(status=RunStatus.INTERRUPTED, ended_at=func.now(), updated_at=func.now())
            )
            await self._connection.execute(
                text(
                    "SELECT heddle.note_progress(r.thread_id, r.run_id)"
                    " FROM heddle.run r WHERE r.run_id = ANY (:ids) AND r.attempt > 0 ORDER BY r.run_id"
                ),
                ids,
            )
            return
        # One that was given back to the queue has made checkpoints already.
        await self._connection.execute(
            text(
                "SELECT heddle.rollback_checkpoints(r.thread_id::text, r.run_id::text, r.base_checkpoint_id,"
                " r.base_writes) FROM heddle.run r WHERE r.run_id = ANY (:ids) AND r.attempt > 0 ORDER BY r.run_id"
            ),
            ids,
        )
        await self._connection.execute(delete(run).where(run.c.run_id.in_(pending), run.c.status == RunStatus.PENDING))

    async def _settle(self, threads: set[Any]) -> None:
        await self._connection.execute(
            text("SELECT heddle.settle_threads(CAST(:threads AS uuid[]))"), {"threads": sorted(threads)}
        )

    async def _one(self, statement: Any) -> Run:
        return run_of((await self._connection.execute(statement)).mappings().one())  # type: ignore[arg-type]

    async def _maybe(self, statement: Any) -> Run | None:
        row = (await self._connection.execute(statement)).mappings().one_or_none()
        return None if row is None else run_of(row)  # type: ignore[arg-type]

    async def _all(self, statement: Select[Any]) -> Sequence[Run]:
        rows = (await self._connection.execute(statement)).mappings()
        return [run_of(row) for row in rows]
