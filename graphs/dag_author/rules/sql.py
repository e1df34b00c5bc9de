"""SQL from words: only what the words determine, in statements that most databases take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphs.dag_author.naming import slug
from graphs.dag_author.rules.lexicon import singular

TIME_COLUMN = "created_at"
_RESERVED_TEXT = """
all and any as case check column constraint create date day default delete desc distinct do drop else end
except for foreign from grant group having hour in index insert intersect into is join key like limit month
not null offset on or order primary rank references row rows select session set table then time timestamp to
transaction trigger union unique update user using value values view when where with year
"""
_RESERVED = frozenset(_RESERVED_TEXT.split())
_FUNCTIONS = {
    "average": "AVG", "avg": "AVG", "mean": "AVG", "maximum": "MAX", "max": "MAX", "highest": "MAX",
    "minimum": "MIN", "min": "MIN", "lowest": "MIN", "total": "SUM", "sum": "SUM", "overall": "SUM",
}  # fmt: skip
_COUNTING = ("number", "count", "counts", "numbers")
_TIME_PARTS = ("hour", "month", "year", "quarter", "week")


def ident(name: str, conn_id: str) -> str:
    """A name as the database takes it, quoted only when it is a word of SQL."""
    plain = slug(name)
    if plain not in _RESERVED and not plain[0].isdigit():
        return plain
    return f"`{plain}`" if conn_id in ("mysql", "mariadb", "bigquery") else f'"{plain}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    function: str
    column: str | None  # None counts rows
    alias: str


def measure(verb: str, words: str) -> Measure | None:
    """What to compute, from words like `revenue`, `average order value`, `number of orders`."""
    parts = words.lower().split()
    function = {"count": "COUNT", "average": "AVG"}.get(verb, "SUM")
    while parts and (parts[0] in _FUNCTIONS or parts[0] in _COUNTING or parts[0] in ("of", "the")):
        word = parts.pop(0)
        function = "COUNT" if word in _COUNTING else _FUNCTIONS.get(word, function)
    if parts and parts[-1] in ("count", "counts") and len(parts) > 1:
        function, parts = "COUNT", parts[:-1]
    if not parts:
        return None
    name = slug(" ".join(parts))
    if function == "COUNT":
        return Measure(function=function, column=None, alias=name)
    return Measure(function=function, column=name, alias=name)


def extract(table: str, staging: str, conn_id: str, period: str, zone: str) -> tuple[list[str], dict[str, Any] | None]:
    """Copy the rows of one period of a table, or all of it, into a fresh staging table."""
    source, target = ident(table, conn_id), ident(staging, conn_id)
    where, parameters = period_filter(period, zone)
    statements = [
        f"DROP TABLE IF EXISTS {target}",
        f"CREATE TABLE {target} AS SELECT * FROM {source} WHERE 1 = 0",
        f"INSERT INTO {target} SELECT * FROM {source}{where}",
    ]
    return statements, parameters


def period_filter(period: str, zone: str) -> tuple[str, dict[str, Any] | None]:
    """The condition that picks the last whole period before the run, the same in both Airflow majors."""
    if not period:
        return "", None
    unit = "day" if period == "week" else period
    back = "subtract(days=7)" if period == "week" else f"subtract({period}s=1)"
    end = f"data_interval_end.in_timezone({zone!r}).start_of({unit!r})"
    layout = "'%Y-%m-%d %H:%M:%S'"
    parameters = {
        "period_start": f"{{{{ {end}.{back}.strftime({layout}) }}}}",
        "period_end": f"{{{{ {end}.strftime({layout}) }}}}",
    }
    return f" WHERE {TIME_COLUMN} >= %(period_start)s AND {TIME_COLUMN} < %(period_end)s", parameters


def aggregate(
    measures: Sequence[Measure], by: Sequence[str], table: str, result: str, conn_id: str, where: str = ""
) -> list[str]:
    """Group a table into a fresh result table."""
    columns = [_dimension(name, conn_id) for name in by]
    computed = [_computed(item, conn_id) for item in measures]
    selected = ", ".join([*(f"{expression}{label}" for expression, label in columns), *computed])
    grouped = f" GROUP BY {', '.join(expression for expression, _ in columns)}" if columns else ""
    target = ident(result, conn_id)
    query = f"SELECT {selected} FROM {ident(table, conn_id)}{where}{grouped}"
    return [f"DROP TABLE IF EXISTS {target}", f"CREATE TABLE {target} AS {query}"]


def top(number: int, thing: str, by: Measure, table: str, result: str, conn_id: str) -> list[str]:
    name, target = ident(singular(slug(thing)), conn_id), ident(result, conn_id)
    value = _computed(by, conn_id)
    query = f"SELECT {name}, {value} FROM {ident(table, conn_id)} GROUP BY {name}"
    order = f"ORDER BY {ident(by.alias, conn_id)} DESC LIMIT {number}"
    return [f"DROP TABLE IF EXISTS {target}", f"CREATE TABLE {target} AS {query} {order}"]


def join(left: str, right: str, keys: Sequence[str], result: str, conn_id: str) -> list[str]:
    using = ", ".join(ident(key, conn_id) for key in keys)
    target = ident(result, conn_id)
    query = f"SELECT * FROM {ident(left, conn_id)} JOIN {ident(right, conn_id)} USING ({using})"
    return [f"DROP TABLE IF EXISTS {target}", f"CREATE TABLE {target} AS {query}"]


def deduplicate(table: str, keys: Sequence[str], result: str, conn_id: str) -> list[str]:
    """Distinct rows, or one row (the newest) for each key."""
    source, target = ident(table, conn_id), ident(result, conn_id)
    if not keys:
        query = f"SELECT DISTINCT * FROM {source}"
    else:
        listed = ", ".join(ident(key, conn_id) for key in keys)
        numbered = f"ROW_NUMBER() OVER (PARTITION BY {listed} ORDER BY {TIME_COLUMN} DESC) AS copy_number"
        query = f"SELECT * FROM (SELECT t.*, {numbered} FROM {source} t) numbered WHERE copy_number = 1"
    return [f"DROP TABLE IF EXISTS {target}", f"CREATE TABLE {target} AS {query}"]


def append(source: str, target: str, conn_id: str) -> list[str]:
    """Add the rows of one table to another of the same database, making it when it is not there."""
    old, new = ident(source, conn_id), ident(target, conn_id)
    return [
        f"CREATE TABLE IF NOT EXISTS {new} AS SELECT * FROM {old} WHERE 1 = 0",
        f"INSERT INTO {new} SELECT * FROM {old}",
    ]


def is_time(name: str) -> bool:
    """Whether a dimension is a part of the time column and no column of its own."""
    return singular(slug(name)) in ("day", "date", *_TIME_PARTS)


def _computed(item: Measure, conn_id: str) -> str:
    column = "*" if item.column is None else ident(item.column, conn_id)
    return f"{item.function}({column}) AS {ident(item.alias, conn_id)}"


def _dimension(name: str, conn_id: str) -> tuple[str, str]:
    plain = singular(slug(name))
    if plain in ("day", "date"):
        return f"CAST({TIME_COLUMN} AS DATE)", f" AS {ident(plain, conn_id)}"
    if plain in _TIME_PARTS:
        return f"EXTRACT({plain.upper()} FROM {TIME_COLUMN})", f" AS {ident(plain, conn_id)}"
    return ident(plain, conn_id), ""
