"""Text that Airflow treats as a Jinja template when the task runs: shell commands, SQL, paths.

Airflow does not look at templates when it reads a file, so a stray `{#` of the shell or a `{{.Names}}` of
docker fails in the first run. What is a template in Airflow's terms stays one; all else is wrapped to be
taken literally. A text ending like a file name would be read as a file: a space at the end prevents it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import jinja2
from jinja2 import meta, nodes

from graphs.dag_author.airflow_names import CONTEXT, REMOVED

_ENVIRONMENT = jinja2.Environment(autoescape=False)  # nosec B701 - it only parses
_CLOSING = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_FILE_ENDINGS = (".sh", ".bash", ".sql", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateText:
    text: str
    literal: bool  # wrapped, because Airflow could not render it
    unknown: tuple[str, ...] = ()  # names it uses that Airflow 3 no longer has


def prepare(text: str) -> TemplateText:
    """The text in the form that comes out of Airflow's renderer as its author meant it."""
    ended = text + " " if text.endswith(_FILE_ENDINGS) else text
    if "{{" not in text and "{%" not in text and "{#" not in text:
        return TemplateText(text=ended, literal=False)
    names = _names(text)
    if names is not None and names <= CONTEXT | REMOVED:
        return TemplateText(text=ended, literal=False, unknown=tuple(sorted(names & REMOVED)))
    return TemplateText(text=_raw(ended), literal=True)


def _names(text: str) -> set[str] | None:
    """The undeclared names of a template; None when it is no template Airflow could render."""
    if "{#" in text:
        return None
    try:
        parsed = _ENVIRONMENT.parse(text)
    except (jinja2.TemplateError, RecursionError):
        return None
    if any(parsed.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends))):
        return None
    return set(meta.find_undeclared_variables(parsed))


def _raw(text: str) -> str:
    """Wrapped so that rendering gives the text back. A closing tag inside it is written as an expression."""
    return "".join(
        "{{ " + repr(piece) + " }}" if closing else "{% raw %}" + piece + "{% endraw %}"
        for closing, piece in _split_endraw(text)
    )


def _split_endraw(text: str) -> list[tuple[bool, str]]:
    found: list[tuple[bool, str]] = []
    start = 0
    for match in _CLOSING.finditer(text):
        found += [(False, text[start : match.start()]), (True, match.group())]
        start = match.end()
    return [piece for piece in [*found, (False, text[start:])] if piece[1]]
