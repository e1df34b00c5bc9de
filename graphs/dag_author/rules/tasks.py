"""Steps become tasks. What the words determine is written out; what they leave open says so when it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphs.dag_author.naming import slug
from graphs.dag_author.rules import bodies, sql
from graphs.dag_author.rules.lexicon import PRONOUNS, Action, Store
from graphs.dag_author.rules.steps import Step
from graphs.dag_author.rules.tokens import Kind, spell
from graphs.dag_author.rules.workshop import Data, Fields, Workshop

_Built = tuple[list[Fields], list[Data]]


def build(shop: Workshop, step: Step) -> list[Fields]:
    """The tasks of a step; they may run side by side."""
    made, left = _BUILDERS[step.action](shop, step)
    if left:
        shop.current = left
    if step.on_failure:
        made = [task | {"trigger_rule": "one_failed"} for task in made]
    return made


def _extract(shop: Workshop, step: Step) -> _Built:
    source = step.source
    place = step.place()
    if place is not None:
        return _from_place(shop, step, place)
    if source is not None and source.store is Store.DATABASE:
        tables = [thing for thing in step.things if thing not in PRONOUNS] or [
            name for name in step.names("from") if slug(name) != source.conn_id and name.lower() != source.name
        ]
        if tables:
            return _pairs(_extract_table(shop, step, table, source.conn_id) for table in tables)
        return [shop.open_task(step, f"which tables of {source.name}")], []
    if source is not None:
        return _opened(shop, step, f"how to reach {source.name}")
    origin = spell(step.parts.get("from", ()))
    return _opened(shop, step, f"where {origin} is" if origin else "where they come from")


def _extract_table(shop: Workshop, step: Step, table: str, conn_id: str) -> tuple[Fields, Data]:
    staging = f"staging_{slug(table)}"
    statements, parameters = sql.extract(table, staging, conn_id, shop.period, shop.zone)
    if parameters:
        shop.assume(f"the table `{slug(table)}` says in `{sql.TIME_COLUMN}` when a row was made")
    fields: Fields = {"conn_id": conn_id, "sql": statements}
    if parameters:
        fields["parameters"] = parameters
    return (
        shop.task(f"{step.verb}_{slug(table)}", "sql", **fields),
        Data(table=staging, conn_id=conn_id, about=table),
    )


def _from_place(shop: Workshop, step: Step, place: str) -> _Built:
    sink = step.sink
    if sink is not None and sink.store is Store.DATABASE and place.endswith((".csv", ".tsv")):
        return _load_file(shop, step, place, sink.conn_id)
    if bodies.is_remote(place):
        target = next((t.text for t in step.parts.get("to", ()) if t.kind is Kind.PLACE), None)
        target = target or bodies.downloaded_name(place)
        task = shop.task(f"{step.verb}_{bodies.table_of(place)}", "bash", bash_command=bodies.download(place, target))
        return [task], [Data(path=target, about=bodies.table_of(place))]
    # A local file needs no fetching: the task only proves that it is there.
    command = f"test -r {bodies.shell_path(place)}"
    task = shop.task(f"{step.verb}_{bodies.table_of(place)}", "bash", bash_command=command)
    return [task], [Data(path=place, about=bodies.table_of(place))]


def _load_file(shop: Workshop, step: Step, path: str, conn_id: str) -> _Built:
    table = bodies.table_of(path)
    shop.assume(f"the table `{table}` on `{conn_id}` exists and has the columns of {path}")
    code = bodies.load_csv(path, conn_id, table)
    return [shop.task(f"{step.verb}_{table}", "python", python_code=code)], [
        Data(table=table, conn_id=conn_id, about=table)
    ]


def _aggregate(shop: Workshop, step: Step) -> _Built:
    things = [thing for thing in step.things if thing not in PRONOUNS]
    if step.verb in ("compute", "calculate", "rank") and not _clear(step, things):
        return _opened(shop, step)
    best = _top(things)
    wanted = best[1:] if best else things
    measures = [found for found in (sql.measure(step.verb, thing) for thing in wanted) if found]
    by = step.names("by")
    if best is not None:
        found = sql.measure("sum", by[0]) if by else None
        measures, by = ([found] if found else []), []
    data, why = _base(shop, step, measures)
    if not measures or data is None:
        return _opened(shop, step, why or "what to compute")
    if any(_is_the_table(item, data) for item in measures):
        if step.verb in ("sum", "average", "total", "rank"):
            return _opened(shop, step, f"which column of {data.table}")
        measures = [_counted(shop, item, data) for item in measures]
    if best is not None:
        result = slug(" ".join(things[:1]))
        statements = sql.top(int(best[0]), best[1], measures[0], data.table, result, data.conn_id)
    else:
        result = "_".join([*(item.alias for item in measures), *(["per", *map(slug, by)] if by else ["summary"])])
        statements = sql.aggregate(measures, by, data.table, result, data.conn_id)
    named = {slug(name) for name in by if not sql.is_time(name)}
    columns = sorted({item.column for item in measures if item.column} | named)
    if columns:
        shop.assume(f"`{slug(data.about) or data.table}` has the columns {', '.join(f'`{c}`' for c in columns)}")
    task = shop.task(f"{step.verb}_{result}", "sql", conn_id=data.conn_id, sql=statements)
    return [task], [Data(table=result, conn_id=data.conn_id, about=result)]


def _clear(step: Step, things: list[str]) -> bool:
    words = {word for thing in things for word in thing.lower().split()}
    known = {"average", "total", "sum", "number", "count", "mean", "max", "min", "maximum", "minimum", "top"}
    return bool(things) and ("by" in step.parts or bool(words & known))


def _top(things: list[str]) -> list[str] | None:
    """`top 10 products`: the number and the thing."""
    words = things[0].split() if things else []
    return [words[1], " ".join(words[2:])] if len(words) > 2 and words[0] == "top" and words[1].isdecimal() else None


def _is_the_table(item: sql.Measure, data: Data) -> bool:
    """Whether the thing to compute is the table itself, which has no column of that name."""
    return item.column is not None and item.column == slug(data.about)


def _counted(shop: Workshop, item: sql.Measure, data: Data) -> sql.Measure:
    """`aggregate orders by country` on the table of orders counts its rows."""
    if not _is_the_table(item, data):
        return item
    shop.assume(f"to aggregate `{item.alias}` means to count its rows")
    return sql.Measure(function="COUNT", column=None, alias=item.alias)


def _base(shop: Workshop, step: Step, measures: list[sql.Measure]) -> tuple[Data | None, str]:
    """The table an aggregation reads, or why that is not known."""
    named = [name for part in ("from", "of", "in") for name in step.names(part)]
    source = step.source
    for name in named:
        if (known := shop.table_named(name)) is not None:
            return known, ""
    counted = [item.alias for item in measures if item.column is None]
    for alias in counted:
        if (known := shop.table_named(alias)) is not None:
            return known, ""
    if source is not None and source.store is Store.DATABASE:
        tables = [name for name in named if slug(name) != source.conn_id and slug(name) != slug(source.name)]
        table = tables[0] if tables else counted[0] if counted else ""
        if table:
            return Data(table=slug(table), conn_id=source.conn_id, about=table), ""
        return None, f"which table of {source.name}"
    tables_now = [data for data in shop.current if data.table]
    if len(tables_now) == 1:
        return tables_now[0], ""
    if tables_now:
        return None, f"which of the tables {', '.join(data.table for data in tables_now)}"
    return None, "where the data is"


def _join(shop: Workshop, step: Step) -> _Built:
    tables = [data for data in shop.current if data.table]
    named = [data for name in [*step.things, *step.names("with")] if (data := shop.table_named(name))]
    sides = named if len(named) == 2 else tables
    keys = [*step.names("on"), *(name for name in step.names("by"))]
    if len(sides) != 2:
        return _opened(shop, step, "which two tables")
    if sides[0].conn_id != sides[1].conn_id:
        where = " and ".join(sorted({side.conn_id for side in sides}))
        return _opened(shop, step, f"the tables are on different connections: {where}")
    if not keys:
        return _opened(shop, step, "the columns to join on")
    result = f"{slug(sides[0].about)}_{slug(sides[1].about)}"
    statements = sql.join(sides[0].table, sides[1].table, keys, result, sides[0].conn_id)
    task = shop.task(f"{step.verb}_{result}", "sql", conn_id=sides[0].conn_id, sql=statements)
    return [task], [Data(table=result, conn_id=sides[0].conn_id, about=result)]


def _filter(shop: Workshop, step: Step) -> _Built:
    return _opened(shop, step, "the condition as SQL")


def _deduplicate(shop: Workshop, step: Step) -> _Built:
    tables = [data for data in shop.current if data.table]
    if len(tables) != 1:
        return _opened(shop, step, "where the data is")
    keys = [*step.names("by"), *step.names("on")]
    data = tables[0]
    result = f"unique_{slug(data.about)}"
    if keys:
        shop.assume(f"of rows with the same {', '.join(keys)} the newest by `{sql.TIME_COLUMN}` is kept")
    statements = sql.deduplicate(data.table, keys, result, data.conn_id)
    task = shop.task(f"{step.verb}_{slug(data.about)}", "sql", conn_id=data.conn_id, sql=statements)
    return [task], [Data(table=result, conn_id=data.conn_id, about=data.about)]


def _load(shop: Workshop, step: Step) -> _Built:
    sink = step.sink
    place = step.place("to")
    local = step.place("")
    if place is not None:
        sources = [local] if local else [data.path for data in shop.current if data.path]
        command = bodies.file_command("copy", [*sources, place]) if len(sources) == 1 else None
        if command:
            return [shop.task(f"{step.verb}_to_{bodies.table_of(place)}", "bash", bash_command=command)], []
        return _opened(shop, step, f"how to write to {place}")
    if sink is None or sink.store is not Store.DATABASE:
        return _opened(shop, step, f"how to reach {sink.name}" if sink else "where to")
    if local is not None and local.endswith((".csv", ".tsv")):
        return _load_file(shop, step, local, sink.conn_id)
    chosen = [data for thing in step.things if (data := shop.table_named(thing))] or shop.current
    if not chosen or not all(data.table or data.path for data in chosen):
        return _opened(shop, step, "where the data is")
    built = [_load_data(shop, step, data, sink.conn_id) for data in chosen]
    return [task for task, _ in built], [data for _, data in built]


def _load_data(shop: Workshop, step: Step, data: Data, conn_id: str) -> tuple[Fields, Data]:
    about = slug(data.about or data.table)
    left = Data(table=about, conn_id=conn_id, about=data.about)
    if data.path:
        if not data.path.endswith((".csv", ".tsv")):
            return shop.open_task(step, f"how to read {data.path}"), left
        tasks, found = _load_file(shop, step, data.path, conn_id)
        return tasks[0], found[0]
    target = f"{about}_loaded" if about == data.table and data.conn_id == conn_id else about
    shop.assume(f"rows are added to the table `{target}` on `{conn_id}`")
    left = Data(table=target, conn_id=conn_id, about=data.about)
    if data.conn_id == conn_id:
        statements = sql.append(data.table, target, conn_id)
        return shop.task(f"{step.verb}_{about}", "sql", conn_id=conn_id, sql=statements), left
    code = bodies.move_rows(f"SELECT * FROM {sql.ident(data.table, data.conn_id)}", data.conn_id, conn_id, target)
    return shop.task(f"{step.verb}_{about}", "python", python_code=code), left


def _transfer(shop: Workshop, step: Step) -> _Built:
    source, sink = step.source, step.sink
    tables = [thing for thing in step.things if thing not in PRONOUNS]
    databases = source and sink and source.store is sink.store is Store.DATABASE
    if not (source and sink and databases and tables):
        return _opened(shop, step, "which tables" if databases else "how to reach both sides")
    found = []
    for table in tables:
        statement = f"SELECT * FROM {sql.ident(table, source.conn_id)}"
        shop.assume(f"all rows of `{slug(table)}` are added to the table of that name on `{sink.conn_id}`")
        code = bodies.move_rows(statement, source.conn_id, sink.conn_id, slug(table))
        task = shop.task(f"{step.verb}_{slug(table)}", "python", python_code=code)
        found.append((task, Data(table=slug(table), conn_id=sink.conn_id, about=table)))
    return _pairs(found)


def _notify(shop: Workshop, step: Step) -> _Built:
    address = next((token.text for token in step.tokens if token.kind is Kind.EMAIL), None)
    mail = address or any(word in ("email", "mail") for word in step.words.lower().split())
    if mail:
        missing = "the mail server" if address else "the mail server and the recipients"
    else:
        missing = "the connection and the channel" if "slack" in step.words.lower() else "the connection"
    return [shop.open_task(step, missing)], []


def _run(shop: Workshop, step: Step) -> _Built:
    quoted = next((token.text for token in step.tokens if token.kind is Kind.QUOTED), None)
    if quoted is not None:
        return [shop.task(f"run_{slug(quoted)[:30]}", "bash", bash_command=quoted)], []
    words = [token.text for token in step.tokens]
    if words and words[0].lower() in bodies.PROGRAMS:
        return [shop.task(f"run_{slug(' '.join(words[:3]))}", "bash", bash_command=" ".join(words))], []
    places = [token.text for token in step.tokens if token.kind is Kind.PLACE]
    scripts = [place for place in places if not bodies.is_remote(place) and not place.endswith(".sql")]
    made = [
        shop.task(f"run_{bodies.table_of(place)}", "bash", bash_command=bodies.run_script(place)) for place in scripts
    ]
    return (made, []) if made else ([shop.open_task(step)], [])


def _trigger(shop: Workshop, step: Step) -> _Built:
    names = [t.text for t in step.tokens if t.kind in (Kind.WORD, Kind.QUOTED)]
    names = [name for name in names if name.lower() not in ("the", "dag", "pipeline", "a", "workflow", "job")]
    if not names:
        return [shop.open_task(step, "which DAG")], []
    target = slug(" ".join(names)) if len(names) > 1 else names[0]
    return [shop.task(f"trigger_{slug(target)}", "trigger_dag", trigger_dag_id=slug(target))], []


def _wait(shop: Workshop, step: Step) -> _Built:
    place = step.place()
    if place is not None and not bodies.is_remote(place):
        about = bodies.table_of(place)
        return [shop.task(f"wait_for_{about}", "wait_file", filepath=place)], [Data(path=place, about=about)]
    words = [token.plain for token in step.tokens]
    number = next((int(word) for word in words if word.isdecimal()), None)
    unit = next((60 if word.startswith("hour") else 1 for word in words if word.startswith(("minute", "hour"))), None)
    if number and unit:
        return [shop.task(f"wait_{number * unit}_minutes", "wait_time", wait_minutes=number * unit)], []
    if "dag" in words or "pipeline" in words:
        at = next(index for index, word in enumerate(words) if word in ("dag", "pipeline"))
        around = [*words[at + 1 : at + 2], *words[:at][::-1]]
        names = [word for word in around if word not in ("the", "for", "until", "to", "has", "is", "finishes")]
        if names:
            return [shop.task(f"wait_for_{names[0]}", "wait_dag", external_dag_id=slug(names[0]))], []
    return [shop.open_task(step, "how to tell that it is there", kind="wait_python")], []


def _file(shop: Workshop, step: Step) -> _Built:
    places = [token.text for token in step.tokens if token.kind is Kind.PLACE]
    if not places and step.refers_back:
        places = [data.path for data in shop.current if data.path]
    command = bodies.file_command(step.verb, places)
    if command is None:
        return _opened(shop, step, "which files")
    task = shop.task(f"{step.verb}_{bodies.table_of(places[0])}", "bash", bash_command=command)
    return [task], [Data(path=places[-1], about=bodies.table_of(places[-1]))] if len(places) == 2 else []


def _other(shop: Workshop, step: Step) -> _Built:
    return _opened(shop, step)


def _opened(shop: Workshop, step: Step, what: str = "") -> _Built:
    """A task to fill in. What it leaves behind is unknown, so nothing after it may build on a table."""
    task = shop.open_task(step, what)
    named = [thing for thing in step.things if thing not in PRONOUNS][:1]
    unknown = [Data(about=thing) for thing in named] or [Data(about=data.about) for data in shop.current[:1]]
    return [task], unknown or [Data()]


def _pairs(found: Any) -> _Built:
    listed = list(found)
    return [task for task, _ in listed], [data for _, data in listed]


_BUILDERS: dict[Action, Callable[[Workshop, Step], _Built]] = {
    Action.EXTRACT: _extract,
    Action.AGGREGATE: _aggregate,
    Action.JOIN: _join,
    Action.FILTER: _filter,
    Action.DEDUPLICATE: _deduplicate,
    Action.LOAD: _load,
    Action.TRANSFER: _transfer,
    Action.NOTIFY: _notify,
    Action.RUN: _run,
    Action.TRIGGER: _trigger,
    Action.WAIT: _wait,
    Action.FILE: _file,
    Action.OTHER: _other,
}
