"""The statements on store items, shared by the repository (SQLAlchemy) and the store of graph code (bare asyncpg).

Parameters are named, `:like_this`; `numbered` gives the `$1` form. A list of namespaces is passed as a `text[]` of
array literals (`array_literal`), because Postgres arrays of arrays must be rectangular.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from heddle_core.domain.item import ANY_LABEL, Condition, Namespace, Operator
from heddle_core.ports.storage import ItemFilter, NamespaceFilter

# Promise: in one statement, every item asked for that exists.
GET = """
SELECT i.namespace, i.key, i.value::text AS value, i.created_at, i.updated_at
  FROM unnest(CAST(:namespaces AS text[]), CAST(:keys AS text[])) AS asked (namespace, key)
  JOIN heddle.item i ON i.namespace = CAST(asked.namespace AS text[]) AND i.key = asked.key
"""

# Promise: all are written, locked in the order of the primary key. No pair of namespace and key may come twice.
PUT = """
INSERT INTO heddle.item (namespace, key, value)
SELECT CAST(given.namespace AS text[]), given.key, CAST(given.value AS jsonb)
  FROM unnest(CAST(:namespaces AS text[]), CAST(:keys AS text[]), CAST(:contents AS text[]))
       AS given (namespace, key, value)
 ORDER BY CAST(given.namespace AS text[]) COLLATE "C", given.key COLLATE "C"
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, updated_at = now()
"""

# Promise: all are gone, locked in the order of the primary key.
DELETE = """
WITH doomed AS (
  SELECT i.namespace, i.key
    FROM unnest(CAST(:namespaces AS text[]), CAST(:keys AS text[])) AS asked (namespace, key)
    JOIN heddle.item i ON i.namespace = CAST(asked.namespace AS text[]) AND i.key = asked.key
   ORDER BY i.namespace, i.key
     FOR UPDATE OF i
)
DELETE FROM heddle.item i USING doomed WHERE i.namespace = doomed.namespace AND i.key = doomed.key
RETURNING i.key
"""

# Promise: the items that exist are locked, in the order of the primary key. For transactions that put and delete.
LOCK = """
SELECT i.key
  FROM unnest(CAST(:namespaces AS text[]), CAST(:keys AS text[])) AS asked (namespace, key)
  JOIN heddle.item i ON i.namespace = CAST(asked.namespace AS text[]) AND i.key = asked.key
 ORDER BY i.namespace, i.key
   FOR UPDATE OF i
"""

_SEARCH = """
SELECT namespace, key, value::text AS value, created_at, updated_at
  FROM heddle.item
 WHERE true"""

# A prefix is a range of the primary key: under collation C nothing sorts between a label and that label + chr(1).
_WITHIN = """
   AND namespace >= CAST(:first AS text[]) AND namespace < CAST(:beyond AS text[])"""

# What a condition is in SQL. A missing key gives NULL, which meets nothing (domain/item.py).
_EQUALITY = """
   AND value -> CAST(:name{n} AS text) {sign} CAST(:operand{n} AS jsonb)"""
_OF_NUMBERS = """
   AND jsonb_typeof(value -> CAST(:name{n} AS text)) = 'number'
   AND value -> CAST(:name{n} AS text) {sign} CAST(:operand{n} AS jsonb)"""
_OF_STRINGS = """
   AND jsonb_typeof(value -> CAST(:name{n} AS text)) = 'string'
   AND (value ->> CAST(:name{n} AS text)) COLLATE "C" {sign} (CAST(:operand{n} AS jsonb) #>> '{{}}')"""

_SIGNS = {
    Operator.EQ: "=",
    Operator.NE: "<>",
    Operator.GT: ">",
    Operator.GTE: ">=",
    Operator.LT: "<",
    Operator.LTE: "<=",
}

_NEWEST_FIRST = """
 ORDER BY updated_at DESC, namespace, key
 LIMIT CAST(:limit AS bigint) OFFSET CAST(:offset AS bigint)
"""

_NAMESPACES = """
SELECT DISTINCT namespace[1:coalesce(CAST(:max_depth AS int), cardinality(namespace))] AS namespace
  FROM heddle.item
 WHERE cardinality(namespace) >= cardinality(CAST(:prefix AS text[]))
   AND cardinality(namespace) >= cardinality(CAST(:suffix AS text[]))
   AND NOT EXISTS (
     SELECT FROM unnest(CAST(:prefix AS text[])) WITH ORDINALITY AS wanted (label, place)
      WHERE label <> '*' AND label <> namespace[place])
   AND NOT EXISTS (
     SELECT FROM unnest(CAST(:suffix AS text[])) WITH ORDINALITY AS wanted (label, place)
      WHERE label <> '*'
        AND label <> namespace[cardinality(namespace) - cardinality(CAST(:suffix AS text[])) + place])"""

_BY_LABELS = """
 ORDER BY 1
 LIMIT CAST(:limit AS bigint) OFFSET CAST(:offset AS bigint)
"""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with named parameters, and their values."""

    sql: str
    values: Mapping[str, Any]


def get(keys: list[tuple[Namespace, str]]) -> Statement:
    return Statement(GET, _addresses(keys))


def put(contents: Mapping[tuple[Namespace, str], str]) -> Statement:
    """`contents` maps an address to the JSON text of its value."""
    return Statement(PUT, {**_addresses(list(contents)), "contents": list(contents.values())})


def delete(keys: list[tuple[Namespace, str]]) -> Statement:
    return Statement(DELETE, _addresses(keys))


def lock(keys: list[tuple[Namespace, str]]) -> Statement:
    return Statement(LOCK, _addresses(keys))


def search(wanted: ItemFilter, limit: int, offset: int) -> Statement:
    within = _range(wanted.prefix)
    sql = _SEARCH + (_WITHIN if within else "")
    values: dict[str, Any] = {**within, "limit": limit, "offset": offset}
    for n, condition in enumerate(wanted.conditions):
        sql += _condition(n, condition)
        values[f"name{n}"] = condition.key
        values[f"operand{n}"] = orjson.dumps(condition.operand).decode()
    return Statement(sql + _NEWEST_FIRST, values)


def namespaces(wanted: NamespaceFilter) -> Statement:
    labels = wanted.prefix
    literal = labels[: labels.index(ANY_LABEL)] if ANY_LABEL in labels else labels
    within = _range(literal)
    given = {
        "prefix": list(wanted.prefix),
        "suffix": list(wanted.suffix),
        "max_depth": wanted.max_depth,
        "limit": wanted.limit,
        "offset": wanted.offset,
    }
    return Statement(_NAMESPACES + (_WITHIN if within else "") + _BY_LABELS, {**within, **given})


def array_literal(namespace: Namespace) -> str:
    """A namespace in the text form of a Postgres array."""
    labels = (label.replace("\\", "\\\\").replace('"', '\\"') for label in namespace)
    return "{" + ",".join(f'"{label}"' for label in labels) + "}"


def numbered(statement: Statement) -> tuple[str, list[Any]]:
    """The statement as asyncpg takes it: `$1`, `$2` and a list of arguments."""
    sql, names = _numbered(statement.sql)
    return sql, [statement.values[name] for name in names]


@lru_cache(maxsize=256)  # there are as many statements as shapes of filters
def _numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    names: dict[str, int] = {}

    def place(match: re.Match[str]) -> str:
        return f"${names.setdefault(match[1], len(names) + 1)}"

    return re.sub(r"(?<![:\w]):([a-z_0-9]+)", place, sql), tuple(names)


def _addresses(keys: list[tuple[Namespace, str]]) -> dict[str, Any]:
    return {"namespaces": [array_literal(namespace) for namespace, _ in keys], "keys": [key for _, key in keys]}


def _range(prefix: Namespace) -> dict[str, Any]:
    if not prefix:
        return {}
    return {"first": list(prefix), "beyond": [*prefix[:-1], prefix[-1] + "\x01"]}


def _condition(n: int, condition: Condition) -> str:
    if not condition.operator.orders:
        form = _EQUALITY
    else:
        form = _OF_STRINGS if isinstance(condition.operand, str) else _OF_NUMBERS
    return form.format(n=n, sign=_SIGNS[condition.operator])
