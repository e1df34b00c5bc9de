"""The graph of tasks: no unknown ids, no cycles. Iterative throughout, since chains may be thousands long."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence

from graphs.dag_author.naming import nearest
from graphs.dag_author.problems import Code, Problem, shown

_SHOWN = 20


def problems(upstream: Mapping[str, Sequence[str]], ids: Sequence[str]) -> list[Problem]:
    """What is wrong with the edges: `upstream` says for each task which tasks it waits for."""
    found = [
        Problem(code=Code.GRAPH_DUPLICATE_ID, path="tasks", rule="two tasks have the same id", got=name)
        for name, times in Counter(ids).items()
        if times > 1
    ]
    for task, wanted in upstream.items():
        for other in wanted:
            if other == task:
                rule = "a task cannot depend on itself"
                found.append(Problem(code=Code.GRAPH_CYCLE, path=f"tasks.{task}.dependencies", rule=rule, got=task))
            elif other not in upstream:
                near = nearest(other, upstream)
                found.append(
                    Problem(
                        code=Code.GRAPH_UNKNOWN_DEPENDENCY,
                        path=f"tasks.{task}.dependencies",
                        rule="names no task of this DAG",
                        got=shown(other),
                        allowed=f"did you mean {near}?" if near else ", ".join(list(upstream)[:10]),
                    )
                )
    if not found and (cycle := find_cycle(upstream)):
        path = cycle if len(cycle) <= _SHOWN else [*cycle[: _SHOWN - 1], "…"]
        rule = "the tasks wait for each other in a circle"
        found.append(Problem(code=Code.GRAPH_CYCLE, path="tasks", rule=rule, got=" → ".join([*path, cycle[0]])))
    return found[:50]


def order(upstream: Mapping[str, Sequence[str]]) -> list[str]:
    """Tasks so that each comes after those it waits for; those in or behind a cycle are left out."""
    waiting = {task: len(set(wanted)) for task, wanted in upstream.items()}
    downstream: dict[str, list[str]] = {task: [] for task in upstream}
    for task, wanted in upstream.items():
        for other in set(wanted):
            downstream[other].append(task)
    ready = deque(task for task, count in waiting.items() if count == 0)
    done = []
    while ready:
        task = ready.popleft()
        done.append(task)
        for other in downstream[task]:
            waiting[other] -= 1
            if waiting[other] == 0:
                ready.append(other)
    return done


def find_cycle(upstream: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks of one cycle in the order they run, or nothing."""
    left = set(upstream) - set(order(upstream))
    if not left:
        return []
    # Every task left waits for another one left, unless it is behind a cycle: walking up must come back.
    seen: dict[str, int] = {}
    walk: list[str] = []
    task = next(name for name in upstream if name in left)
    while task not in seen:
        seen[task] = len(walk)
        walk.append(task)
        task = next(other for other in upstream[task] if other in left)
    return list(reversed(walk[seen[task] :]))


def behind(upstream: Mapping[str, Sequence[str]], sources: set[str]) -> set[str]:
    """All tasks that come after any of the sources."""
    found: set[str] = set()
    for task in order(upstream):
        if any(other in sources or other in found for other in upstream[task]):
            found.add(task)
    return found
