"""Task names as typed become task ids, and the edges that used the names follow them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from graphs.dag_author.naming import TASK_ID, nearest, numbered, slug
from graphs.dag_author.problems import Code, Problem, Refused, shown


def assign(tasks: list[dict[str, Any]], notes: list[str]) -> list[dict[str, Any]]:
    """The tasks with ids Airflow takes. Names that are ids already keep them; the others are slugged.

    Two different names may want one id: the later gets a number, and the exact names tell the edges apart.
    """
    names = [_name(task, index) for index, task in enumerate(tasks)]
    doubles = sorted(name for name, times in Counter(names).items() if times > 1)
    if doubles:
        raise Refused(
            [
                Problem(
                    code=Code.GRAPH_DUPLICATE_ID,
                    path="tasks",
                    rule="two tasks have the same id: give each its own",
                    got=shown(name),
                )
                for name in doubles[:20]
            ]
        )
    ids = _ids(names, notes)
    by_slug: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_slug[slug(name)].append(name)
    problems: list[Problem] = []
    renamed = []
    for index, task in enumerate(tasks):
        wanted = task.get("dependencies")
        edges = wanted
        if isinstance(wanted, list) and all(isinstance(item, str) for item in wanted):
            where = f"tasks[{index}].dependencies"
            edges = list(dict.fromkeys(_resolve(item, ids, by_slug, where, problems) for item in wanted))
        renamed.append(
            {**task, "task_id": ids[names[index]], **({"dependencies": edges} if wanted is not None else {})}
        )
    if problems:
        raise Refused(problems[:50])
    return renamed


def _name(task: dict[str, Any], index: int) -> str:
    name = task.get("task_id")
    if not isinstance(name, str) or not name.strip():
        raise Refused.because(
            Code.SPEC_INVALID, f"tasks[{index}].task_id", "must be a name", got="" if name is None else name
        )
    if len(name) > 500:
        raise Refused.because(Code.SPEC_INVALID, f"tasks[{index}].task_id", "is longer than 500 characters", got=name)
    return name.strip()


def _ids(names: list[str], notes: list[str]) -> dict[str, str]:
    ids = {name: name for name in names if TASK_ID.match(name)}
    taken = set(ids.values())
    for name in names:
        if name not in ids:
            ids[name] = numbered(slug(name), taken)
            taken.add(ids[name])
            notes.append(f"The task {shown(name)!r} has the id `{ids[name]}`.")
    return ids


def _resolve(
    wanted: str, ids: dict[str, str], by_slug: dict[str, list[str]], where: str, problems: list[Problem]
) -> str:
    name = wanted.strip()
    if name in ids:
        return ids[name]
    alike = by_slug.get(slug(name), [])
    if len(alike) == 1:
        return ids[alike[0]]
    if alike:
        rule, allowed = "could be more than one task: use the exact name", ", ".join(alike[:10])
        code = Code.GRAPH_DUPLICATE_ID
    else:
        near = nearest(name, ids)
        rule, code = "names no task of this DAG", Code.GRAPH_UNKNOWN_DEPENDENCY
        allowed = f"did you mean {near}?" if near else ", ".join(list(ids)[:10])
    problems.append(Problem(code=code, path=where, rule=rule, got=shown(wanted), allowed=allowed))
    return name
