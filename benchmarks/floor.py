"""What one process cannot get under: the same graphs with no server around them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from benchmarks import graphs

MICRO = 1_000_000


async def cpu_each(times: int, work: Callable[[], Awaitable[object]], *, at_once: int = 1) -> float:
    """CPU microseconds of this process per call, after a warm-up."""
    await work()
    started = time.process_time()
    for _ in range(times // at_once):
        await asyncio.gather(*(work() for _ in range(at_once)))
    return (time.process_time() - started) / (times // at_once * at_once) * MICRO


def _config() -> RunnableConfig:
    return {"configurable": {"thread_id": str(uuid4())}}


async def echo_run() -> float:
    compiled = graphs.echo.compile(checkpointer=InMemorySaver())
    return await cpu_each(300, lambda: compiled.ainvoke({"text": "hi"}, _config()))


async def superstep() -> float:
    compiled = graphs.steps.compile()
    config: RunnableConfig = {"recursion_limit": 1000}
    return await cpu_each(10, lambda: compiled.ainvoke({"left": 100}, config)) / 100


async def token() -> float:
    compiled = graphs.talker.compile()

    async def stream() -> None:
        async for _ in compiled.astream({"messages": [HumanMessage("go")]}, stream_mode="messages"):
            pass

    return await cpu_each(20, stream) / 200


async def custom_event() -> float:
    compiled = graphs.customs.compile()

    async def stream() -> None:
        async for _ in compiled.astream({"left": 2000}, stream_mode="custom"):
            pass

    return await cpu_each(5, stream) / 2000


async def long_turn(messages: int = 1000) -> float:
    compiled = graphs.chat.compile(checkpointer=InMemorySaver())
    config = _config()
    await compiled.ainvoke({"messages": [HumanMessage(f"message {n}") for n in range(messages)]}, config)
    return await cpu_each(20, lambda: compiled.ainvoke({"messages": [HumanMessage("next")]}, config))
