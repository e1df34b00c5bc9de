"""A request in plain English becomes a spec, by rules alone: no model, no network, always the same answer."""

from __future__ import annotations

from typing import Any

from graphs.dag_author.problems import Code, Refused
from graphs.dag_author.rules import clauses, edges, modifiers, steps, timing, zones
from graphs.dag_author.rules.bodies import table_of
from graphs.dag_author.rules.cadence import Timing
from graphs.dag_author.rules.lexicon import PRONOUNS
from graphs.dag_author.rules.steps import Step
from graphs.dag_author.rules.tasks import build
from graphs.dag_author.rules.tokens import Kind
from graphs.dag_author.rules.workshop import Workshop
from graphs.dag_author.spec import DEFAULT_START

NAME_WORDS = 6


def plan(text: str) -> tuple[dict[str, Any], list[str]]:
    """The spec a request describes, in the vocabulary of `POST /create-dag`, and what was assumed.

    Refused when it names no step, or a time or zone that no schedule can express.
    """
    when, tokens = timing.read(text)
    zone, tokens = zones.read(tokens)
    fields, tokens = modifiers.read(tokens)
    segments = [
        (segment.parallel, [step for clause in segment.clauses if (step := steps.read(clause))])
        for segment in clauses.split(tokens)
    ]
    known = [step for _, found in segments for step in found]
    if not known:
        raise Refused.because(
            Code.GRAPH_EMPTY,
            "request",
            "names nothing to do",
            got=text,
            allowed="say the steps, such as: extract orders from postgres, then email a report",
        )
    shop = Workshop(period=when.period, zone=zone or "UTC")
    tasks = _tasks(segments, shop)
    if not when.said:
        shop.assume("no schedule was named: the DAG runs only when it is triggered")
    return {
        "dag_name": _name(known),
        "description": " ".join(text.split())[:1000],
        "timezone": zone or "UTC",
        **_schedule(when),
        **fields,
        "tasks": tasks,
    }, shop.assumptions


def _tasks(segments: list[tuple[bool, list[Step]]], shop: Workshop) -> list[dict[str, Any]]:
    normal = [(parallel, [step for step in found if not step.on_failure]) for parallel, found in segments]
    layers: list[list[dict[str, Any]]] = []
    for group in edges.groups(normal):
        before, left = shop.current, []
        layer: list[dict[str, Any]] = []
        for step in group:
            shop.current = before
            layer += build(shop, step)
            left += [] if shop.current is before else shop.current
        shop.current = left or before
        layers.append(layer)
    upstream = edges.wire([[task["task_id"] for task in layer] for layer in layers])
    tasks = [task for layer in layers for task in layer]
    ends = edges.leaves(upstream)
    for step in (step for _, found in segments for step in found if step.on_failure):
        for task in build(shop, step):
            upstream[task["task_id"]] = ends
            tasks.append(task)
    return [task | {"dependencies": upstream[task["task_id"]]} for task in tasks]


def _schedule(when: Timing) -> dict[str, Any]:
    fields: dict[str, Any] = {"schedule_interval": when.schedule_interval}
    if when.interval_minutes is not None:
        fields["interval_minutes"] = when.interval_minutes
    if when.start_clock is not None:
        fields["start_date"] = f"{DEFAULT_START}T{when.start_clock.hour:02}:{when.start_clock.minute:02}:00"
    return fields


def _name(known: list[Step]) -> str:
    """A name from the things the steps work on: Orders revenue country."""
    words: list[str] = []
    for step in known:
        files = [token.text for token in step.tokens if token.kind is Kind.PLACE]
        for thing in (*step.things, *step.names("by"), *map(table_of, files)):
            if thing.lower() not in PRONOUNS:
                words += [word for word in thing.split() if word.lower() not in [w.lower() for w in words]]
    if not words:
        words = known[0].words.split()
    name = " ".join(words[:NAME_WORDS]).strip()
    return name[:1].upper() + name[1:200]
