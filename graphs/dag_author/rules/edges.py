"""Which tasks wait for which: groups that run one after the other, tasks of a group side by side."""

from __future__ import annotations

from collections.abc import Sequence

from graphs.dag_author.rules.lexicon import Action
from graphs.dag_author.rules.steps import Step


def groups(segments: Sequence[tuple[bool, Sequence[Step]]]) -> list[list[Step]]:
    """Steps in groups. Each segment is (said to be parallel, its steps).

    "in parallel" makes one group of a segment, after the steps that fetch what the others work on.
    Elsewhere each step waits for the one before it, except fetching from several sources in a row.
    """
    found: list[list[Step]] = []
    for parallel, steps in segments:
        if parallel:
            fetching = [step for step in steps if step.action is Action.EXTRACT]
            mixed = 0 < len(fetching) < len(steps) and steps[0].action is Action.EXTRACT
            found += [fetching, [step for step in steps if step not in fetching]] if mixed else [list(steps)]
            continue
        for number, step in enumerate(steps):
            fetches = step.action is Action.EXTRACT and number > 0 and steps[number - 1].action is Action.EXTRACT
            if fetches and step.things and not step.refers_back:
                found[-1].append(step)
            else:
                found.append([step])
    return [group for group in found if group]


def wire(layers: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """What each task waits for: all tasks of the layer before its own."""
    found: dict[str, list[str]] = {}
    before: Sequence[str] = ()
    for layer in layers:
        found.update({task: list(before) for task in layer})
        before = layer or before
    return found


def leaves(upstream: dict[str, list[str]]) -> list[str]:
    """Tasks nothing waits for."""
    waited_for = {other for wanted in upstream.values() for other in wanted}
    return [task for task in upstream if task not in waited_for]
