"""Graphs that can be held at the door of any node, so that a test decides when something happens to their run.

`configurable` may name a file as `gate_<node>`: the node makes `<file>.reached` and waits until the file is there.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


class Log(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]
    value: Any


async def _at_the_door(node: str, config: RunnableConfig) -> None:
    gate = config["configurable"].get(f"gate_{node}")
    if gate:
        Path(f"{gate}.reached").touch()
        while not Path(gate).exists():
            await asyncio.sleep(0.02)


def _say(word: str) -> Callable[..., Any]:
    async def node(state: Log, config: RunnableConfig) -> Log:
        await _at_the_door(word, config)
        return {"log": [word]}

    return node


def _ask(word: str) -> Callable[..., Any]:
    async def node(state: Log, config: RunnableConfig) -> Log:
        await _at_the_door(word, config)
        return {"log": [f"{word}: {interrupt({'question': word})}"]}

    return node


def _journey(*asks: str) -> StateGraph[Any, Any, Any, Any]:
    """first, then the questions side by side, then second, then third."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Log)
    for name in ("first", "second", "third"):
        builder.add_node(name, _say(name))
    for name in asks:
        builder.add_node(name, _ask(name))
        builder.add_edge("first", name)
    builder.add_edge(START, "first")
    builder.add_edge(list(asks) or "first", "second")
    builder.add_edge("second", "third")
    builder.add_edge("third", END)
    return builder


def _tell(state: Log, config: RunnableConfig) -> Log:
    """Says in a file how often it ran, whatever becomes of its answer."""
    told = config["configurable"].get("told")
    if told:
        with Path(told).open("a") as file:
            file.write("ran\n")
    return {"log": ["quick"]}


async def _stubborn(state: Log, config: RunnableConfig) -> Log:
    """Does not take the first cancel for an answer."""
    try:
        await _at_the_door("stubborn", config)
    except asyncio.CancelledError:
        await asyncio.sleep(0.3)
    return {"log": ["stubborn"]}


def _siblings() -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Log)
    builder.add_node("quick", _tell)
    builder.add_node("slow", _say("slow"))
    builder.add_node("last", _say("last"))
    builder.add_edge(START, "quick")
    builder.add_edge(START, "slow")
    builder.add_edge(["quick", "slow"], "last")
    builder.add_edge("last", END)
    return builder


def _nested() -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Log)
    builder.add_node("outer", _say("outer"))
    builder.add_node("inside", _journey("ask").compile())
    builder.add_edge(START, "outer")
    builder.add_edge("outer", "inside")
    builder.add_edge("inside", END)
    return builder


def _alone() -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Log)
    builder.add_node("stubborn", _stubborn)
    builder.add_node("last", _say("last"))
    builder.add_edge(START, "stubborn")
    builder.add_edge("stubborn", "last")
    builder.add_edge("last", END)
    return builder


straight = _journey()
asking = _journey("ask")
asking_two = _journey("ask", "also")
nested = _nested()
siblings = _siblings()
stubborn = _alone()
