"""Assistants and their versions as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import (
    BindParameter,
    Cast,
    Column,
    ColumnElement,
    Row,
    Select,
    Table,
    Text,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from heddle_core.domain.assistant import Assistant, AssistantContent, AssistantFilter
from heddle_core.domain.ids import AssistantId, RunId, ThreadId
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.domain.thread import Page
from heddle_server.storage.tables import assistant, assistant_version, run, thread

_CONTENT = ("graph_id", "name", "description", "config", "context", "metadata")
_SORTABLE = ("assistant_id", "created_at", "updated_at", "name", "graph_id")


class AssistantRows:
    """`ports.storage.Assistants` on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def insert(self, assistant_id: AssistantId, content: AssistantContent) -> Assistant | None:
        new = upsert(assistant).values(assistant_id=assistant_id, version=1, **_values(content))
        statement = new.on_conflict_do_nothing(index_elements=["assistant_id"]).returning(*_columns(assistant))
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            return None
        await self._keep_version(assistant_id)
        return _assistant(row)

    async def get(self, assistant_id: AssistantId) -> Assistant | None:
        return await self._one(_by_id(assistant_id))

    async def lock(self, assistant_id: AssistantId) -> Assistant | None:
        return await self._one(_by_id(assistant_id).with_for_update())

    async def update(self, assistant_id: AssistantId, content: AssistantContent) -> Assistant:
        newest = select(func.max(assistant_version.c.version)).where(assistant_version.c.assistant_id == assistant_id)
        statement = (
            update(assistant)
            .where(assistant.c.assistant_id == assistant_id)
            .values(version=newest.scalar_subquery() + 1, updated_at=func.now(), **_values(content))
            .returning(*_columns(assistant))
        )
        row = (await self._connection.execute(statement)).one()
        await self._keep_version(assistant_id)
        return _assistant(row)

    async def set_latest(self, assistant_id: AssistantId, version: int) -> Assistant | None:
        older = assistant_version.c
        statement = (
            update(assistant)
            .where(assistant.c.assistant_id == assistant_id)
            .where(older.assistant_id == assistant.c.assistant_id, older.version == version)
            .values(version=older.version, updated_at=func.now(), **{name: older[name] for name in _CONTENT})
            .returning(*_columns(assistant))
        )
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else _assistant(row)

    async def versions(self, assistant_id: AssistantId, metadata: Encoded | None, page: Page) -> Sequence[Assistant]:
        made_at = assistant_version.c.created_at.label("updated_at")
        statement = select(*_columns(assistant_version), made_at).where(
            assistant_version.c.assistant_id == assistant_id
        )
        if metadata is not None:
            statement = statement.where(assistant_version.c.metadata.contains(_json(metadata)))
        newest_first = statement.order_by(assistant_version.c.version.desc())
        rows = await self._connection.execute(newest_first.limit(page.limit).offset(page.offset))
        return [_assistant(row) for row in rows]

    async def search(self, wanted: AssistantFilter, page: Page) -> Sequence[Assistant]:
        keys = [_sort_column(page.sort_by), assistant.c.assistant_id]
        order = [key.desc() if page.descending else key.asc() for key in keys]
        statement = _matching(select(*_columns(assistant)), wanted).order_by(*order)
        rows = await self._connection.execute(statement.limit(page.limit).offset(page.offset))
        return [_assistant(row) for row in rows]

    async def count(self, wanted: AssistantFilter) -> int:
        statement = _matching(select(func.count()).select_from(assistant), wanted)
        return int((await self._connection.execute(statement)).scalar_one())

    async def delete(self, assistant_id: AssistantId) -> bool:
        statement = delete(assistant).where(assistant.c.assistant_id == assistant_id)
        return bool((await self._connection.execute(statement)).rowcount)

    async def threads_of(self, assistant_id: AssistantId) -> Sequence[ThreadId]:
        named = _json(Encoded(orjson.dumps({"assistant_id": str(assistant_id)})))
        statement = select(thread.c.thread_id).where(thread.c.metadata.contains(named)).order_by(thread.c.thread_id)
        return [ThreadId(found) for found in await self._connection.scalars(statement)]

    async def inflight_of(self, assistant_id: AssistantId) -> Sequence[tuple[ThreadId, RunId]]:
        statement = (
            select(run.c.thread_id, run.c.run_id)
            .where(run.c.assistant_id == assistant_id, run.c.status.in_(("pending", "running")))
            .order_by(run.c.thread_id, run.c.run_id)
        )
        return [(ThreadId(row.thread_id), RunId(row.run_id)) for row in await self._connection.execute(statement)]

    async def _one(self, statement: Select[Any]) -> Assistant | None:
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else _assistant(row)

    async def _keep_version(self, assistant_id: AssistantId) -> None:
        """Copy the current row to its versions."""
        kept = ("assistant_id", "version", *_CONTENT)
        current = select(*(assistant.c[name] for name in kept), assistant.c.updated_at).where(
            assistant.c.assistant_id == assistant_id
        )
        await self._connection.execute(insert(assistant_version).from_select([*kept, "created_at"], current))


def _columns(table: Table) -> list[ColumnElement[Any]]:
    """JSON as text, which is decoded here and not by the driver."""
    return [
        cast(column, Text).label(column.name) if isinstance(column.type, JSONB) else column for column in table.columns
    ]


def _by_id(assistant_id: AssistantId) -> Select[Any]:
    return select(*_columns(assistant)).where(assistant.c.assistant_id == assistant_id)


def _sort_column(name: str) -> Column[Any]:
    if name not in _SORTABLE:
        raise ValueError(f"assistants are not sorted by {name}")
    return assistant.c[name]


def _matching(statement: Select[Any], wanted: AssistantFilter) -> Select[Any]:
    if wanted.graph_id is not None:
        statement = statement.where(assistant.c.graph_id == wanted.graph_id)
    if wanted.name is not None:
        statement = statement.where(assistant.c.name.icontains(wanted.name, autoescape=True))
    if wanted.metadata is not None:
        statement = statement.where(assistant.c.metadata.contains(_json(wanted.metadata)))
    return statement


def _values(content: AssistantContent) -> dict[str, Any]:
    return {
        "graph_id": content.graph_id,
        "name": content.name,
        "description": content.description,
        "config": _json(_encoded(content.config)),
        "context": _json(_encoded(content.context)),
        "metadata": _json(_encoded(content.metadata)),
    }


def _encoded(value: JsonObject) -> Encoded:
    return Encoded(orjson.dumps(value))


def _json(text: Encoded) -> Cast[Any]:
    value: BindParameter[str] = literal(text.decode(), Text)
    return cast(value, JSONB)


def _assistant(row: Row[*tuple[Any, ...]]) -> Assistant:
    return Assistant(
        assistant_id=AssistantId(row.assistant_id),
        graph_id=row.graph_id,
        name=row.name,
        description=row.description,
        config=orjson.loads(row.config),
        context=orjson.loads(row.context),
        metadata=orjson.loads(row.metadata),
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
