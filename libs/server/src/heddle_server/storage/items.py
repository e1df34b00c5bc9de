"""Store items as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import CursorResult, Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from heddle_core.domain.item import Item, Namespace
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.ports.storage import ItemFilter, NamespaceFilter
from heddle_server.storage import item_sql


class ItemRows:
    """`ports.storage.Items` on one connection. Values stay JSON text."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def put(self, namespace: Namespace, key: str, value: JsonObject) -> None:
        await self._execute(item_sql.put({(namespace, key): orjson.dumps(value).decode()}))

    async def get(self, namespace: Namespace, key: str) -> Item | None:
        row = (await self._execute(item_sql.get([(namespace, key)]))).one_or_none()
        return None if row is None else _item(row)

    async def delete(self, namespace: Namespace, key: str) -> bool:
        return bool((await self._execute(item_sql.delete([(namespace, key)]))).all())

    async def search(self, wanted: ItemFilter, limit: int, offset: int) -> Sequence[Item]:
        return [_item(row) for row in await self._execute(item_sql.search(wanted, limit, offset))]

    async def namespaces(self, wanted: NamespaceFilter) -> Sequence[Namespace]:
        return [tuple(row.namespace) for row in await self._execute(item_sql.namespaces(wanted))]

    async def _execute(self, statement: item_sql.Statement) -> CursorResult[Any]:
        return await self._connection.execute(text(statement.sql), statement.values)


def _item(row: Row[*tuple[Any, ...]]) -> Item:
    return Item(
        namespace=tuple(row.namespace),
        key=row.key,
        value=Encoded(row.value.encode()),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
