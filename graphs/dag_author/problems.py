"""Every way a request can fail, as a closed set of codes, and the value that reports one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    REQUEST_EMPTY = "request_empty"
    MODEL_UNREACHABLE = "model_unreachable"
    MODEL_TIMEOUT = "model_timeout"
    MODEL_REJECTED_KEY = "model_rejected_key"
    MODEL_REFUSED = "model_refused"
    ANSWER_UNREADABLE = "answer_unreadable"
    ANSWER_TRUNCATED = "answer_truncated"
    ANSWER_EMPTY = "answer_empty"
    SPEC_INVALID = "spec_invalid"
    GRAPH_CYCLE = "graph_cycle"
    GRAPH_UNKNOWN_DEPENDENCY = "graph_unknown_dependency"
    GRAPH_DUPLICATE_ID = "graph_duplicate_id"
    GRAPH_EMPTY = "graph_empty"
    GRAPH_TOO_LARGE = "graph_too_large"
    SCHEDULE_INVALID = "schedule_invalid"
    SCHEDULE_NEVER_FIRES = "schedule_never_fires"
    TIMEZONE_UNKNOWN = "timezone_unknown"
    START_DATE_INVALID = "start_date_invalid"
    CODE_SYNTAX = "code_syntax"
    CODE_ENTRY_UNCLEAR = "code_entry_unclear"
    BASH_EMPTY = "bash_empty"
    TEMPLATE_INVALID = "template_invalid"
    RENDER_MISMATCH = "render_mismatch"
    NAME_CONFLICT = "name_conflict"
    DAG_NOT_FOUND = "dag_not_found"
    PROJECT_INVALID = "project_invalid"
    COMMIT_FAILED = "commit_failed"


_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One broken rule: where, which, what was there and what may be there."""

    code: Code
    path: str
    rule: str
    got: str = ""
    allowed: str = ""

    def as_json(self) -> dict[str, str]:
        return {
            "code": self.code.value,
            "path": self.path,
            "rule": self.rule,
            "got": self.got,
            "allowed": self.allowed,
        }


class Refused(Exception):
    """The request cannot be carried out; `problems` says why and nothing was written."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{p.code} at {p.path}: {p.rule}" for p in problems))
        self.problems = tuple(problems)

    @classmethod
    def because(cls, code: Code, path: str, rule: str, *, got: object = "", allowed: str = "") -> Refused:
        return cls([Problem(code=code, path=path, rule=rule, got=shown(got), allowed=allowed)])


def shown(value: object) -> str:
    """A value as an error message may quote it: short, printable, on one line."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(letter if letter.isprintable() else " " for letter in text[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
