"""What planning one request keeps track of: the data made so far, the ids taken, what was assumed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graphs.dag_author.naming import numbered, slug
from graphs.dag_author.rules import bodies
from graphs.dag_author.rules.lexicon import PRONOUNS, Action
from graphs.dag_author.rules.steps import Step
from graphs.dag_author.rules.tokens import Kind

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What a task leaves behind: a table on a connection, or a file."""

    table: str = ""
    conn_id: str = ""
    path: str = ""
    about: str = ""  # the thing in it, as the request named it


@dataclass(slots=True, kw_only=True)
class Workshop:
    """The state of planning one request: what exists so far, which names are taken, what was assumed."""

    period: str
    zone: str
    ids: set[str] = field(default_factory=set)
    current: list[Data] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)

    def task(self, task_id: str, kind: str, **fields: Any) -> Fields:
        chosen = numbered(slug(task_id)[:60].rstrip("_"), self.ids)
        self.ids.add(chosen)
        return {"task_id": chosen, "task_type": kind, **fields}

    def open_task(self, step: Step, what: str = "", kind: str = "python") -> Fields:
        words = step.words if not what else f"{step.words} ({what})"
        about = self.current[0].about if step.refers_back and self.current and not step.parts.get("to") else ""
        name = f"{step.verb}_{slug(about)}" if about and step.verb else name_of(step)
        return self.task(name, kind, python_code=bodies.fill_in(words))

    def assume(self, text: str) -> None:
        if text not in self.assumptions:
            self.assumptions.append(text)

    def table_named(self, words: str) -> Data | None:
        plain = slug(words)
        return next((data for data in self.current if data.table and slug(data.about) == plain), None)


def name_of(step: Step) -> str:
    """An id in the words of the request: email_report, notify_slack, train_model."""
    words = [slug(word) for thing in step.things for word in thing.split() if thing not in PRONOUNS]
    if not words:
        words = [slug(t.text) for t in step.tokens if t.kind in (Kind.WORD, Kind.PLACE, Kind.QUOTED)]
        words = [word for word in words if word not in ("the", "a", "an", "to", "it", "them", "all", "of", "for")]
    target = step.parts.get("to", ()) or step.parts.get("on", ())
    channel = [slug(t.text) for t in target if t.kind is Kind.WORD and t.plain == "slack"]
    link = ["to", *channel] if channel and step.action is Action.NOTIFY else []
    words = [word for word in words if not link or word not in channel]
    return "_".join([slug(step.verb) if step.verb else "", *words[:4], *link]).strip("_") or "step"
