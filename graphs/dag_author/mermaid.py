"""A graph of tasks as Mermaid text, which chat clients draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MAX_TASKS = 150


def draw(kinds: Mapping[str, str], upstream: Mapping[str, Sequence[str]]) -> str:
    """Tasks left to right, each with its kind. A very large DAG is cut, and says so."""
    shown = list(kinds)[:MAX_TASKS]
    # Mermaid has words of its own (end, graph, class): a prefix keeps task ids from being one.
    lines = ["```mermaid", "flowchart LR", *(f'    t_{task}["{task}<br/>{kinds[task]}"]' for task in shown)]
    known = set(shown)
    lines += [f"    t_{before} --> t_{task}" for task in shown for before in upstream.get(task, ()) if before in known]
    if len(kinds) > len(shown):
        lines.append(f'    more["and {len(kinds) - len(shown)} more"]')
    return "\n".join([*lines, "```"])
