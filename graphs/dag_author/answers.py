"""Everything this agent says."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.messages import AIMessage

from graphs.dag_author import commands, mermaid, roundtrip, schedule
from graphs.dag_author.plan import Plan
from graphs.dag_author.problems import Code, Problem, Refused, shown
from graphs.dag_author.state import Draft, State

if TYPE_CHECKING:
    from graphs.dag_author.rows import DagRow
    from graphs.dag_author.store import Shown

_MESSAGES = UUID("0d6c8e4e-6f2a-5a7e-9b53-1f0a2c6f7d10")
EXAMPLE = (
    "/agent create daily pipeline that extracts orders from postgres, aggregates revenue per country "
    "and emails a report at 6am"
)
EMPTY = Problem(
    code=Code.REQUEST_EMPTY, path="request", rule="says nothing to create", allowed=commands.USAGE["create"]
)
_PLANNERS = {
    "rules": "Planned by the built-in rules, because no model is configured (set OPENAI_API_KEY or "
    "OPENAI_API_BASE to use one).",
    "model": "Planned by the configured model.",
    "given": "Made from the spec as given.",
}
_FIXES = {
    Code.MODEL_UNREACHABLE: "Check OPENAI_API_BASE and that the service is up, then ask again.",
    Code.MODEL_TIMEOUT: "Ask again, or raise DAG_AUTHOR_MODEL_TIMEOUT.",
    Code.MODEL_REJECTED_KEY: "Check OPENAI_API_KEY and that it may use the model DAG_AUTHOR_MODEL names.",
    Code.MODEL_REFUSED: "Say the request in other words.",
    Code.ANSWER_UNREADABLE: "Ask again, name the steps more plainly, or choose another model.",
    Code.ANSWER_TRUNCATED: "Ask for fewer tasks, or use a model that may answer at greater length.",
    Code.ANSWER_EMPTY: "Ask again, or choose another model.",
    Code.GRAPH_CYCLE: "Take out one of the dependencies of the circle.",
    Code.RENDER_MISMATCH: "Please report this with the request that caused it.",
}


def message(key: str, text: str) -> AIMessage:
    """An answer. Made again for the same request, it has the same id and so replaces itself."""
    clean = "".join("\ufffd" if c == "\x00" or "\ud800" <= c <= "\udfff" else c for c in text)
    return AIMessage(content=clean, id=str(uuid.uuid5(_MESSAGES, key)))


def refused(key: str, refusal: Refused) -> dict[str, Any]:
    """The state update of a node that answers by itself and found the request impossible."""
    found = [problem.as_json() for problem in refusal.problems]
    return {"messages": [message(key, problems(found))], "problems": found}


def problems(found: Sequence[dict[str, str]]) -> str:
    """What is wrong and how to put it right."""
    lines = ["Nothing was created." if found[0]["code"] != Code.DAG_NOT_FOUND else "Nothing to show.", ""]
    for problem in found[:20]:
        line = f"- `{problem['code']}` at `{problem['path']}`: {problem['rule']}"
        if problem["got"]:
            line += f" (got: {_inline(problem['got'])})"
        lines.append(line + ".")
        fix = problem["allowed"] or _FIXES.get(Code(problem["code"]), "")
        if fix:
            lines.append(f"  Fix: {fix}")
    if len(found) > 20:
        lines.append(f"- and {len(found) - 20} more")
    return "\n".join(lines)


def created(state: State, draft: Draft, plan: Plan) -> str:
    """What was made, when it runs, how it looks, and what is left to write."""
    dag_id = state.get("dag_id") or plan.dag_id
    lines = [
        f"Created **{dag_id}** with {_count(len(plan.tasks), 'task')}.",
        "",
        f"- File: `{state.get('file_path')}`",
        f"- Commit: `{state.get('commit_id')}`",
        f"- Schedule: {state.get('schedule')}",
        *_runs_line(state.get("next_runs") or []),
        f"- Planner: {_PLANNERS[draft['planner']]}",
        "",
        mermaid.draw(
            {task.task_id: task.kind for task in plan.tasks},
            {task.task_id: task.upstream for task in plan.tasks},
        ),
    ]
    if open_items := plan.fill_in:
        lines += ["", "To fill in (these tasks fail until you write them):"]
        lines += [f"- `{task_id}`: {item}" for task_id, item in open_items]
    notes = [*draft["notes"], *plan.warnings]
    if notes:
        lines += ["", "Please check:", *(f"- {note}" for note in notes[:30])]
    return "\n".join(lines)


def listing(found: Sequence[DagRow]) -> str:
    if not found:
        return f"This project has no DAGs yet. Make one: `{EXAMPLE}`"
    lines = [f"{_count(len(found), 'DAG')} in this project:", ""]
    for row in found:
        when = f"`{row.schedule_interval}`" if row.schedule_interval else "only when triggered"
        lines.append(f"- **{row.dag_id}** ({_inline(row.dag_name)}): {_count(row.task_count, 'task')}, {when}")
    return "\n".join(lines)


def showing(found: Shown) -> str:
    """A DAG as its file is now, not as it was when it was made."""
    row = found.row
    if found.source is None:
        return (
            f"**{row.dag_id}** was created in commit `{row.commit_id}`, but `{row.file_path}` is no "
            "longer in the project: somebody deleted it. The commit still holds it."
        )
    lines = [
        f"**{row.dag_id}** ({_inline(row.dag_name)})",
        "",
        f"- File: `{row.file_path}`",
        f"- Commit: `{row.commit_id}`",
    ]
    try:
        dag = roundtrip.read(found.source)
    except (roundtrip.NotADag, SyntaxError, ValueError, RecursionError) as fault:
        lines += [
            "",
            f"The file was changed and no longer has the shape this agent reads: {_inline(str(fault))}.",
        ]
    else:
        lines += _schedule_lines(dag)
        drawn = mermaid.draw({task.task_id: task.kind for task in dag.tasks}, dag.upstream())
        if found.edited:
            lines.append("- Somebody changed the file since this agent wrote it.")
        lines += ["", drawn]
    fence = "`" * max(3, _longest_run(found.source, "`") + 1)
    return "\n".join([*lines, "", f"{fence}python", found.source.rstrip("\n"), fence])


def guidance(action: str, text: str) -> str:
    """Help, and a hint for what was not understood."""
    usage = "\n".join(f"- `{line}`" for line in commands.USAGE.values())
    body = f"{usage}\n\nFor example: `{EXAMPLE}`"
    if action == "unknown":
        near = commands.meant(text)
        hint = f" Did you mean `/agent {near}`?" if near else ""
        return f"There is no command {_inline(text)}.{hint}\n\n{body}"
    if action == "empty":
        return f"`{EMPTY.code}`: say what the DAG should do.\n\n{body}"
    if action == "chat":
        return f"I turn plain English into Airflow DAGs. Start a message with `/agent`:\n\n{body}"
    return f"I turn plain English into Airflow DAGs:\n\n{body}"


def _schedule_lines(dag: roundtrip.FoundDag) -> list[str]:
    stored, zone = dag.arguments.get("schedule"), roundtrip.zone_of(dag)
    try:
        when = schedule.of_value(stored)
        lines = [f"- Schedule: {schedule.in_words(when, zone)}"]
        runs = schedule.next_runs(when, zone, datetime.now(UTC))
    except (Refused, ValueError, KeyError):
        return [f"- Schedule: {_inline(str(stored))}"]
    return lines + _runs_line([moment.isoformat() for moment in runs])


def _runs_line(runs: Sequence[str]) -> list[str]:
    return [f"- Next runs: {', '.join(runs)}"] if runs else []


def _inline(text: str) -> str:
    """Text of a user inside a line of ours: short, and not able to start a block of its own."""
    return f"`{shown(text).replace('`', chr(39))}`"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _longest_run(text: str, letter: str) -> int:
    longest = current = 0
    for found in text:
        current = current + 1 if found == letter else 0
        longest = max(longest, current)
    return longest
