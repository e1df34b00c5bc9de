"""Many store operations of graph code as few statements.

State: a `Batch` collects prepared requests, runs once, and then answers each request. Reads see the store as it was
before the batch's writes, as in LangGraph's own Postgres store; of several writes to one item the last wins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

import asyncpg
import orjson
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)

from heddle_core.domain.errors import HeddleError
from heddle_core.domain.item import (
    ANY_LABEL,
    Namespace,
    check_key,
    check_labels,
    check_namespace,
    conditions,
)
from heddle_core.domain.storable import check_json
from heddle_core.ports.storage import ItemFilter, NamespaceFilter
from heddle_server.storage import item_sql

Address = tuple[Namespace, str]

if TYPE_CHECKING:  # these are generic in their stubs only
    from asyncpg.pool import PoolConnectionProxy

    _Pool = asyncpg.Pool[asyncpg.Record]
    _Connection = PoolConnectionProxy[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class Get:
    address: Address


@dataclass(frozen=True, slots=True)
class Put:
    address: Address
    content: str | None  # JSON text; None removes the item


@dataclass(frozen=True, slots=True)
class Search:
    wanted: ItemFilter
    limit: int
    offset: int


@dataclass(frozen=True, slots=True)
class List:
    wanted: NamespaceFilter | None  # None: conditions that no namespace can meet


Prepared = Get | Put | Search | List


class NotSupportedByStore(NotImplementedError):
    """This store keeps no vectors and no expiry times."""


def prepare(ops: Iterable[Op]) -> tuple[Prepared, ...]:
    """Check the operations and encode what they carry, in the caller's thread.

    Raises `InvalidNamespaceError`, `ValueError` or `NotSupportedByStore`: no batch fails for one caller's fault.
    """
    return tuple(_prepared(op) for op in ops)


def _prepared(op: Op) -> Prepared:
    match op:
        case PutOp():
            return _put(op)
        case GetOp():
            return Get(_address(op.namespace, op.key))
        case SearchOp():
            return _search(op)
        case ListNamespacesOp():
            return _list(op)
    assert_never(op)


def _put(op: PutOp) -> Put:
    if op.ttl is not None:
        raise NotSupportedByStore("ttl is not supported by this version of Heddle; leave it out")
    if op.index:
        raise NotSupportedByStore("index is not supported by this version of Heddle; leave it out")
    address = _address(op.namespace, op.key)
    if op.value is None:
        return Put(address, None)
    try:
        check_namespace(op.namespace, "namespace")
    except HeddleError as error:
        raise InvalidNamespaceError(error.message) from None
    value = dict(op.value)
    try:
        check_json(value, "value")
    except HeddleError as error:
        raise ValueError(error.message) from None
    return Put(address, json.dumps(value, ensure_ascii=False, allow_nan=False))


def _search(op: SearchOp) -> Search:
    prefix = _labels(op.namespace_prefix)
    _check_page(op.limit, op.offset)
    try:
        meeting = conditions(op.filter or {}, "filter")
    except HeddleError as error:
        raise ValueError(error.message) from None
    return Search(ItemFilter(prefix=prefix, conditions=meeting), op.limit, op.offset)


def _list(op: ListNamespacesOp) -> List:
    _check_page(op.limit, op.offset)
    if op.max_depth is not None and op.max_depth < 1:
        raise ValueError("max_depth must be at least 1")
    paths: dict[str, list[Namespace]] = {"prefix": [], "suffix": []}
    for condition in op.match_conditions or ():
        if condition.match_type not in paths:
            raise ValueError(f"{condition.match_type!r} is not a match type; use 'prefix' or 'suffix'")
        paths[condition.match_type].append(_labels(condition.path))
    prefix = _both(paths["prefix"])
    suffix = _both([path[::-1] for path in paths["suffix"]])
    if prefix is None or suffix is None:
        return List(None)
    return List(
        NamespaceFilter(prefix=prefix, suffix=suffix[::-1], max_depth=op.max_depth, limit=op.limit, offset=op.offset)
    )


def _both(paths: Sequence[Namespace]) -> Namespace | None:
    """One path that matches what all of them match; None when two contradict each other."""
    labels: list[str] = []
    for path in paths:
        for place, label in enumerate(path):
            if place == len(labels):
                labels.append(label)
            elif labels[place] == ANY_LABEL:
                labels[place] = label
            elif label not in (ANY_LABEL, labels[place]):
                return None
    return tuple(labels)


def _address(namespace: Sequence[str], key: str) -> Address:
    labels = _labels(namespace)
    try:
        check_key(key, "key")
    except HeddleError as error:
        raise ValueError(error.message) from None
    return labels, key


def _labels(labels: Sequence[str]) -> Namespace:
    wrong = next((label for label in labels if not isinstance(label, str)), None)
    if wrong is not None:
        raise InvalidNamespaceError(f"namespace: labels must be strings, and {wrong!r} is not")
    try:
        check_labels(labels, "namespace")
    except HeddleError as error:
        raise InvalidNamespaceError(error.message) from None
    return tuple(labels)


def _check_page(limit: int, offset: int) -> None:
    if not (0 <= limit < 2**63 and 0 <= offset < 2**63):
        raise ValueError("limit and offset must not be negative")


class Batch:
    """Prepared requests, executed together on one connection."""

    def __init__(self, requests: Sequence[Sequence[Prepared]]) -> None:
        self._requests = requests
        self._items: dict[Address, asyncpg.Record] = {}
        self._found: dict[int, list[asyncpg.Record]] = {}

    async def execute(self, pool: _Pool) -> list[list[Result]]:
        """Run everything and answer each request, in order. Writes are one transaction."""
        flat = [op for request in self._requests for op in request]
        async with pool.acquire() as connection:
            await self._read(connection, flat)
            await self._write(connection, flat)
        return [[self._answer(op) for op in request] for request in self._requests]

    async def _read(self, connection: _Connection, flat: Sequence[Prepared]) -> None:
        wanted = dict.fromkeys(op.address for op in flat if isinstance(op, Get))
        if wanted:
            rows = await _fetch(connection, item_sql.get(list(wanted)))
            self._items = {(tuple(row["namespace"]), row["key"]): row for row in rows}
        for op in flat:
            if isinstance(op, Search):
                self._found[id(op)] = await _fetch(connection, item_sql.search(op.wanted, op.limit, op.offset))
            elif isinstance(op, List) and op.wanted is not None:
                self._found[id(op)] = await _fetch(connection, item_sql.namespaces(op.wanted))

    async def _write(self, connection: _Connection, flat: Sequence[Prepared]) -> None:
        last = {op.address: op.content for op in flat if isinstance(op, Put)}
        puts = {address: content for address, content in last.items() if content is not None}
        removed = [address for address, content in last.items() if content is None]
        if puts and removed:
            async with connection.transaction():
                await _fetch(connection, item_sql.lock(list(last)))
                await _fetch(connection, item_sql.put(puts))
                await _fetch(connection, item_sql.delete(removed))
        elif puts:
            await _fetch(connection, item_sql.put(puts))
        elif removed:
            await _fetch(connection, item_sql.delete(removed))

    def _answer(self, op: Prepared) -> Result:
        match op:
            case Put():
                return None
            case Get():
                row = self._items.get(op.address)
                return None if row is None else Item(**_fields(row))
            case Search():
                return [SearchItem(**_fields(row), score=None) for row in self._found[id(op)]]
            case List():
                return [tuple(row["namespace"]) for row in self._found.get(id(op), ())]
        assert_never(op)


async def _fetch(connection: _Connection, statement: item_sql.Statement) -> list[asyncpg.Record]:
    sql, values = item_sql.numbered(statement)
    return await connection.fetch(sql, *values)


def _fields(row: asyncpg.Record) -> dict[str, Any]:
    """Decoded for each answer, so that no two callers share a value they may change."""
    return {
        "namespace": tuple(row["namespace"]),
        "key": row["key"],
        "value": orjson.loads(row["value"]),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }
