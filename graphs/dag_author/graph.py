"""The agent that turns `/agent create …` into a committed Airflow DAG.

receive ─┬─ plan ── check ── commit ─┬─ answer
         ├─ list_dags ───────────────┤
         ├─ show ────────────────────┤
         └───────────────────────────┘
A node that finds the request impossible leaves `problems`, and the next node is `answer`.
"""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph

from graphs.dag_author.lazy import node
from graphs.dag_author.nodes.receive import receive
from graphs.dag_author.state import Input, Output, State

_NEXT = {"create": "plan", "list": "list_dags", "show": "show"}


def _after_receive(state: State) -> str:
    return "answer" if state.get("problems") else _NEXT.get(state["request"]["action"], "answer")


def _unless_refused(then: str):  # type: ignore[no-untyped-def] # langgraph reads the names of its branches
    def decide(state: State) -> str:
        return "answer" if state.get("problems") else then

    decide.__name__ = f"on_to_{then}"
    return decide


builder = StateGraph(State, input_schema=Input, output_schema=Output)
builder.add_node("receive", receive)
for name in ("plan", "check", "commit", "list_dags", "show", "answer"):
    builder.add_node(name, node(name))  # type: ignore[arg-type] # its overloads take no plain Callable
builder.add_edge(START, "receive")
builder.add_conditional_edges("receive", _after_receive, ["plan", "list_dags", "show", "answer"])
builder.add_conditional_edges("plan", _unless_refused("check"), ["check", "answer"])
builder.add_conditional_edges("check", _unless_refused("commit"), ["commit", "answer"])
builder.add_edge("commit", "answer")
builder.add_edge("list_dags", END)
builder.add_edge("show", END)
builder.add_edge("answer", END)

graph = builder.compile(name="dag_author")
