"""What a token, a custom event and an echo run cost on top of LangGraph, in CPU time, without HTTP and database.

Run it with `python benchmarks/streaming_floor.py`. Only the ratios inside one run mean anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import StreamWriter
from typing_extensions import TypedDict

from heddle_core.domain.events import Event, StreamMode
from heddle_core.domain.ids import AssistantId, new_run_id, new_thread_id, uuid7
from heddle_core.domain.json import EMPTY_OBJECT
from heddle_core.domain.run import MultitaskStrategy, Run, RunKwargs, RunStatus
from heddle_core.ports.run_queue import Claim
from heddle_server.graphs.isolated_loop import IsolatedLoop
from heddle_server.graphs.loader import GraphLoader
from heddle_server.graphs.runtime import GraphRuntime
from heddle_server.graphs.sources import GraphSpec

TOKENS = 2000
ROUNDS = 7


class Model(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "benchmark"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for number in range(TOKENS):
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"w{number} "))


model = Model()


async def agent(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


class Log(TypedDict):
    log: Annotated[list[str], lambda old, new: [*old, *new]]


async def talk(state: Log, writer: StreamWriter) -> dict[str, Any]:
    for number in range(TOKENS):
        writer({"number": number, "text": "some text"})
    return {"log": ["x"]}


async def say(state: Log) -> dict[str, Any]:
    return {"log": ["x"]}


def single(state: Any, node: Any) -> Any:
    return StateGraph(state).add_node("node", node).add_edge(START, "node")


tokens = single(MessagesState, agent)
customs = single(Log, talk)
echo = single(Log, say)


class Ledger:
    """Stands for the storage's: the runtime only hands it on."""


class CountingLog:
    is_watched = True

    def __init__(self) -> None:
        self.count = 0

    def append(self, events: Sequence[Event]) -> None:
        self.count += len(events)


def claim(graph_id: str, given: Any, mode: StreamMode) -> Claim:
    now = datetime.now(UTC)
    assistant = AssistantId(uuid7())
    run = Run(
        run_id=new_run_id(),
        thread_id=new_thread_id(),
        assistant_id=assistant,
        graph_id=graph_id,
        created_at=now,
        updated_at=now,
        status=RunStatus.RUNNING,
        metadata=EMPTY_OBJECT,
        kwargs=EMPTY_OBJECT,
        multitask_strategy=MultitaskStrategy.ENQUEUE,
    )
    return Claim(
        run=run,
        kwargs=RunKwargs(input=given, config={}, stream_modes=(mode,)),
        assistant_id=assistant,
        graph_id=graph_id,
        attempt=1,
        token=uuid7(),
        thread_metadata=EMPTY_OBJECT,
        thread_config=EMPTY_OBJECT,
        already_started=False,
        ledger=Ledger(),
    )


async def cpu(work: Callable[[], Awaitable[None]], per: int) -> float:
    """Microseconds of CPU for one of `per` things, the median of several rounds."""
    await work()
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        await work()
        found.append((time.process_time() - began) / per * 1e6)
    return median(found)


def bare(graph: Any, given: Any, mode: str, times: int = 1) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for _ in range(times):
            config = {"configurable": {"thread_id": str(uuid7())}}
            async for _chunk in graph.astream(given, config, stream_mode=mode):
                pass

    return work


def ours(
    runtime: GraphRuntime, graph_id: str, given: Any, mode: str, times: int = 1, *, summarize: bool = False
) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for _ in range(times):
            one = claim(graph_id, given, StreamMode(mode))
            await runtime.run(one, CountingLog())
            if summarize:
                await runtime.summarize(one)

    return work


async def main() -> None:
    here = Path(__file__)
    specs = [GraphSpec(graph_id=name, path=f"{here.name}:{name}") for name in ("tokens", "customs", "echo")]
    loader = GraphLoader(specs, here.parent, checkpointer=InMemorySaver())
    runtime = GraphRuntime(loader)
    question = {"messages": [{"role": "user", "content": "hi"}]}
    floors = {name: loader.static(name) for name in ("tokens", "customs", "echo")}
    async with IsolatedLoop(slots=4) as isolated:
        apart = GraphRuntime(loader, isolated=isolated)
        rows = [
            ("token", TOKENS, bare(floors["tokens"], question, "messages"), "tokens", question, "messages-tuple"),
            ("custom event", TOKENS, bare(floors["customs"], {"log": []}, "custom"), "customs", {"log": []}, "custom"),
        ]
        print(f"{'':22}{'floor us':>10}{'ours us':>10}{'ratio':>8}{'isolated us':>13}")
        for name, per, floor, graph_id, given, mode in rows:
            base = await cpu(floor, per)
            mine = await cpu(ours(runtime, graph_id, given, mode), per)
            far = await cpu(ours(apart, graph_id, given, mode), per)
            print(f"{name:22}{base:10.1f}{mine:10.1f}{mine / base:8.2f}{far:13.1f}")
        base = await cpu(bare(floors["echo"], {"log": []}, "values", 100), 100)
        mine = await cpu(ours(runtime, "echo", {"log": []}, "values", 100), 100)
        whole = await cpu(ours(runtime, "echo", {"log": []}, "values", 100, summarize=True), 100)
        far = await cpu(ours(apart, "echo", {"log": []}, "values", 100), 100)
        print(f"{'echo run':22}{base:10.1f}{mine:10.1f}{mine / base:8.2f}{far:13.1f}")
        print(f"{'echo run and summary':22}{base:10.1f}{whole:10.1f}{whole / base:8.2f}")


if __name__ == "__main__":
    asyncio.run(main())
