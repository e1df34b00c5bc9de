"""The least a project can hold: what the server weighs without guests is measured with it."""

from typing import TypedDict

from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    text: str


def _nothing(state: State) -> State:
    return {}


graph = StateGraph(State).add_node("nothing", _nothing).add_edge(START, "nothing")
