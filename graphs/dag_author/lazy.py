"""Nodes that are imported when they first run.

A server loads every graph before it serves. git, templates and model libraries cost more than all the rest,
and many a process never needs them.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.runnables import RunnableConfig

from graphs.dag_author.state import State

Node = Callable[[State, RunnableConfig], Awaitable[dict[str, Any]]]


def node(name: str) -> Node:
    """The function of this name in the module of this name below `nodes`."""

    async def run(state: State, config: RunnableConfig) -> dict[str, Any]:
        module = await asyncio.to_thread(importlib.import_module, f"graphs.dag_author.nodes.{name}")
        function: Node = getattr(module, name)
        return await function(state, config)

    run.__name__ = name
    return run
