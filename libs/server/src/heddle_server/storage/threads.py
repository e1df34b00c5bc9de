"""Threads as rows. JSON columns leave the database as text and go to the client as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from heddle_core.domain.ids import ThreadId
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import OutcomeKind
from heddle_core.domain.thread import (
    Extract,
    Page,
    StateSummary,
    Thread,
    ThreadFilter,
    ThreadStatus,
    resting_status,
)
from heddle_server.storage.thread_copy import COPY

# What a row is read as, in the order of `_thread`. The second column says what stands for it when a search does not
# select it: the JSON columns may be large, and reading them back as text is most of what a search costs.
_JSON_COLUMNS = {
    "metadata": ("metadata::text", "'{}'"),
    "config": ("config::text", "'{}'"),
    "values": ('"values"::text', "NULL::text"),
    "interrupts": ("interrupts::text", "'{}'"),
    "error": ("error::text", "NULL::text"),
}
_KEYS = "thread_id, created_at, updated_at, state_updated_at, status"
_ROW = f"{_KEYS}, {', '.join(full for full, _ in _JSON_COLUMNS.values())}, NULL::text"

_INSERT = f"""
INSERT INTO heddle.thread (thread_id, metadata, ephemeral) VALUES ($1, $2::text::jsonb, $3)
ON CONFLICT (thread_id) DO NOTHING
RETURNING {_ROW}
"""
_MERGE_METADATA = f"""
UPDATE heddle.thread SET metadata = metadata || $2::text::jsonb, updated_at = now()
 WHERE thread_id = $1
RETURNING {_ROW}
"""

# The run rows go first, by the cascade: it waits for a flush that holds one of them, so that what that flush wrote is
# seen, and removed, by the statements that follow. A later flush finds no run row and writes nothing.
_DELETE = "DELETE FROM heddle.thread WHERE thread_id = $1"
_DELETE_CHECKPOINTS = (
    "DELETE FROM checkpoint_writes WHERE thread_id = $1",
    "DELETE FROM checkpoint_blobs WHERE thread_id = $1",
    "DELETE FROM checkpoints WHERE thread_id = $1",
)

# An update of the state clears the error of the last run. The thread stays busy if a run is in flight after all.
_SAVE_SUMMARY = """
UPDATE heddle.thread
   SET "values" = $2::text::jsonb, interrupts = $3::text::jsonb, has_next = $4, resting_status = $5, error = NULL,
       status = CASE WHEN EXISTS (SELECT FROM heddle.run WHERE run.thread_id = $1
                                     AND run.status IN ('pending', 'running')) THEN 'busy' ELSE $5 END,
       state_updated_at = now(), updated_at = now()
 WHERE thread_id = $1
"""

_OUTLINE = frozenset({"metadata", "config"})
_STATUS = {status.value: status for status in ThreadStatus}
_SORTABLE = frozenset({"thread_id", "status", "created_at", "updated_at", "state_updated_at"})


class _Rows(Protocol):
    def parameters(self) -> Sequence[object]:
        """In the order of `heddle.write_rows`, after the owners."""
        ...


class _Buffer(Protocol):
    """What a ledger is to a state update: the rows it holds, and the id they are written under."""

    @property
    def run_id(self) -> UUID: ...

    def take_tail(self) -> _Rows: ...


class ThreadRows:
    """`ports.storage.Threads` on one connection. Hidden threads are found by id, never by search or count."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def insert(self, thread_id: ThreadId, metadata: Encoded, *, ephemeral: bool = False) -> Thread | None:
        return await self._one(_INSERT, thread_id, metadata.decode(), ephemeral)

    async def get(self, thread_id: ThreadId, *, select: frozenset[str] | None = None) -> Thread | None:
        return await self._one(_read(select), thread_id)

    async def lock(self, thread_id: ThreadId) -> Thread | None:
        return await self._one(f"{_read(_OUTLINE)} FOR UPDATE", thread_id)

    async def merge_metadata(self, thread_id: ThreadId, metadata: Encoded) -> Thread | None:
        return await self._one(_MERGE_METADATA, thread_id, metadata.decode())

    async def search(self, wanted: ThreadFilter, page: Page) -> Sequence[Thread]:
        """Wants a connection with `plan_cache_mode = force_custom_plan`: whether the metadata index or the order by
        time is the way in depends on the filter, and a generic plan takes the wrong one for all."""
        parameters: list[object] = []
        bind = _binder(parameters)
        columns = f"{_columns(page.select)}, {_extracted(page.extract, bind)}"
        statement = (
            f"SELECT {columns} FROM heddle.thread WHERE {_where(wanted, bind)} "
            f"ORDER BY {_order(page)} LIMIT {bind(page.limit)} OFFSET {bind(page.offset)}"
        )
        found = await self._connection.exec_driver_sql(statement, tuple(parameters))
        return [_thread(row) for row in found.all()]

    async def count(self, wanted: ThreadFilter) -> int:
        parameters: list[object] = []
        where = _where(wanted, _binder(parameters))
        statement = f"SELECT count(*) FROM heddle.thread WHERE {where}"
        return cast(int, (await self._connection.exec_driver_sql(statement, tuple(parameters))).scalar_one())

    async def delete(self, thread_id: ThreadId) -> bool:
        gone = await self._connection.exec_driver_sql(_DELETE, (thread_id,))
        for statement in _DELETE_CHECKPOINTS:
            await self._connection.exec_driver_sql(statement, (str(thread_id),))
        return gone.rowcount == 1

    async def copy(self, source: ThreadId, target: ThreadId) -> Thread | None:
        copied = await self._connection.exec_driver_sql(COPY, (source, target, str(source), str(target)))
        if copied.one()[0] == 0:
            return None
        return await self.get(target)

    async def save_state(self, thread_id: ThreadId, ledger: object, state: StateSummary) -> None:
        await self._write_tail(cast(_Buffer, ledger))
        values = None if state.values is None else state.values.decode()
        resting = resting_status(OutcomeKind.SUCCESS, has_next=state.has_next).value
        parameters = (thread_id, values, state.interrupts.decode(), state.has_next, resting)
        await self._connection.exec_driver_sql(_SAVE_SUMMARY, parameters)

    async def _write_tail(self, ledger: _Buffer) -> None:
        rows = ledger.take_tail().parameters()
        places = ", ".join(f"${place}" for place in range(1, len(rows) + 2))
        await self._connection.exec_driver_sql(f"SELECT heddle.write_rows({places})", ([ledger.run_id], *rows))

    async def _one(self, statement: str, *parameters: object) -> Thread | None:
        row = (await self._connection.exec_driver_sql(statement, parameters)).one_or_none()
        return None if row is None else _thread(row)


_Bind = Callable[[object], str]


def _binder(parameters: list[object]) -> _Bind:
    """Adds a parameter and gives its placeholder."""

    def bind(value: object) -> str:
        parameters.append(value)
        return f"${len(parameters)}"

    return bind


def _where(wanted: ThreadFilter, bind: _Bind) -> str:
    conditions = ["NOT ephemeral"]
    if wanted.ids is not None:
        conditions.append(f"thread_id = ANY({bind(list(wanted.ids))}::uuid[])")
    if wanted.metadata is not None:
        conditions.append(f"metadata @> {bind(wanted.metadata.decode())}::text::jsonb")
    if wanted.values is not None:
        conditions.append(f'"values" @> {bind(wanted.values.decode())}::text::jsonb')
    if wanted.status is not None:
        conditions.append(f"status = {bind(wanted.status.value)}")
    return " AND ".join(conditions)


def _order(page: Page) -> str:
    if page.sort_by not in _SORTABLE:
        raise ValueError(f"threads cannot be sorted by {page.sort_by!r}")
    direction = "DESC" if page.descending else "ASC"
    tie = "" if page.sort_by == "thread_id" else f", thread_id {direction}"
    return f"{page.sort_by} {direction}{tie}"


def _columns(select: frozenset[str] | None) -> str:
    if select is None:
        json = [full for full, _ in _JSON_COLUMNS.values()]
    else:
        json = [full if name in select else empty for name, (full, empty) in _JSON_COLUMNS.items()]
    return f"{_KEYS}, {', '.join(json)}"


def _read(select: frozenset[str] | None) -> str:
    return f"SELECT {_columns(select)}, NULL::text FROM heddle.thread WHERE thread_id = $1"


def _extracted(extracts: Sequence[Extract], bind: _Bind) -> str:
    if not extracts:
        return "NULL::text"
    pairs = (f'{bind(e.alias)}::text, "{e.root}" #> {bind(list(e.path))}::text[]' for e in extracts)
    return f"jsonb_build_object({', '.join(pairs)})::text"


def _text(value: str | None) -> Encoded | None:
    return None if value is None else Encoded(value.encode())


def _thread(row: Any) -> Thread:
    (
        thread_id,
        created_at,
        updated_at,
        state_updated_at,
        status,
        metadata,
        config,
        values,
        interrupts,
        error,
        more,
    ) = row
    return Thread(
        thread_id=thread_id,
        created_at=created_at,
        updated_at=updated_at,
        state_updated_at=state_updated_at,
        status=_STATUS[status],
        metadata=Encoded(metadata.encode()),
        config=Encoded(config.encode()),
        values=_text(values),
        interrupts=Encoded(interrupts.encode()),
        error=_text(error),
        extracted=_text(more),
    )
