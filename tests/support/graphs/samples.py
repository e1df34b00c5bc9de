"""Graphs that do one thing each, for tests of the server's edge to LangGraph."""

from __future__ import annotations

import asyncio
import operator
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.channels import UntrackedValue
from langgraph.channels.delta import DeltaChannel
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.types import Command, Send, StreamWriter, interrupt
from langgraph_sdk.runtime import ServerRuntime
from pydantic import BaseModel
from typing_extensions import TypedDict


class Log(TypedDict):
    log: Annotated[list[Any], operator.add]


class Wide(TypedDict):
    log: Annotated[list[Any], operator.add]
    secret: str


class Narrow(TypedDict):
    log: Annotated[list[Any], operator.add]


def line(*nodes: Any, state: Any = Log, **schemas: Any) -> StateGraph[Any, Any, Any, Any]:
    """A builder with the nodes one after the other, named after their functions."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(state, **schemas)
    before = START
    for node in nodes:
        builder.add_node(node.__name__, node)
        builder.add_edge(before, node.__name__)
        before = node.__name__
    builder.add_edge(before, END)
    return builder


async def echo_node(state: Log) -> dict[str, Any]:
    return {"log": ["echo"]}


echo = line(echo_node).compile()


async def first(state: Log) -> dict[str, Any]:
    return {"log": ["first"]}


def second(state: Log) -> dict[str, Any]:
    return {"log": ["second"]}


two = line(first, second)


def hide(state: Wide) -> dict[str, Any]:
    return {"log": ["hide"], "secret": "s"}


narrow = line(hide, state=Wide, output_schema=Narrow).compile()


async def ask(state: Log) -> dict[str, Any]:
    answer = interrupt({"question": "go on?"})
    return {"log": [f"answer {answer}"]}


asks = line(first, ask)


def child(state: Log) -> dict[str, Any]:
    return {"log": ["child"]}


sub = line(first)
sub.add_node("inner", line(child).compile())
sub.add_edge("first", "inner")
parent = sub.compile()

asking_sub = StateGraph(Log)
asking_sub.add_node("inner", line(ask).compile())
asking_sub.add_edge(START, "inner")
asking_parent = asking_sub.compile()


class ScriptedModel(BaseChatModel):
    """Streams its words, and asks for a tool on the first turn if it is told to."""

    words: list[str] = ["he", "ll", "o"]  # noqa: RUF012
    calls_tool: bool = False

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _wants_tool(self, messages: list[BaseMessage]) -> bool:
        return self.calls_tool and not isinstance(messages[-1], ToolMessage)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("".join(self.words)))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        if self._wants_tool(messages):
            call: Any = {"name": "add", "args": '{"a": 1}', "id": "call-1", "index": 0, "type": "tool_call_chunk"}
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[call]))
            return
        for word in self.words:
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))


def _chat(model: ScriptedModel) -> Any:
    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return agent


chat = line(_chat(ScriptedModel()), state=MessagesState).compile()


async def tools(state: MessagesState) -> dict[str, Any]:
    call = state["messages"][-1].tool_calls[0]  # type: ignore[union-attr]
    return {"messages": [ToolMessage("2", tool_call_id=call["id"], name=call["name"])]}


def _next(state: MessagesState) -> str:
    return "tools" if getattr(state["messages"][-1], "tool_calls", None) else END


tool_builder = StateGraph(MessagesState)
tool_builder.add_node("agent", _chat(ScriptedModel(calls_tool=True)))
tool_builder.add_node("tools", tools)
tool_builder.add_edge(START, "agent")
tool_builder.add_conditional_edges("agent", _next, ["tools", END])
tool_builder.add_edge("tools", "agent")
tool_agent = tool_builder.compile()

chat_sub_builder = StateGraph(MessagesState)
chat_sub_builder.add_node("inner", line(_chat(ScriptedModel()), state=MessagesState).compile())
chat_sub_builder.add_edge(START, "inner")
chat_parent = chat_sub_builder.compile()


class Unusual(BaseException):
    """Not an Exception: `except Exception` misses it."""


def fails(state: Log) -> dict[str, Any]:
    match state["log"][-1]:
        case "value":
            raise ValueError("boom \0 happened")
        case "base":
            raise Unusual("very unusual")
        case "exit":
            sys.exit(3)
        case "keyboard":
            raise KeyboardInterrupt
        case "cancel":
            raise asyncio.CancelledError
        case _:
            return {"log": ["fine"]}


async def fails_async(state: Log) -> dict[str, Any]:
    await asyncio.sleep(0)
    return fails(state)


failing = line(fails).compile()
failing_async = line(fails_async).compile()


def sleeps(state: Log) -> dict[str, Any]:
    time.sleep(float(state["log"][-1]))
    return {"log": ["slept"]}


async def blocks(state: Log) -> dict[str, Any]:
    time.sleep(float(state["log"][-1]))  # noqa: ASYNC251
    return {"log": ["blocked"]}


async def waits(state: Log, writer: StreamWriter) -> dict[str, Any]:
    writer("waiting")
    try:
        await asyncio.Event().wait()
    finally:
        writer("stopping")
    return {"log": ["never"]}


sleeper = line(sleeps).compile()
blocker = line(blocks).compile()
waiter = line(first, waits).compile()


@dataclass
class Context:
    model: str = "small"
    size: int = 1


def show_context(state: Log, runtime: Runtime[Context], config: RunnableConfig) -> dict[str, Any]:
    configurable = config["configurable"]
    ids = {name: configurable.get(name) for name in ("run_id", "thread_id", "graph_id", "assistant_id", "user_id")}
    return {"log": [{"context": runtime.context and runtime.context.model, **ids}]}


with_context = line(show_context, context_schema=Context).compile()


def show_metadata(state: Log, config: RunnableConfig) -> dict[str, Any]:
    shown = {name: value for name, value in config["metadata"].items() if not name.startswith("langgraph_path")}
    return {"log": [shown]}


metadata = line(show_metadata).compile()


class Opaque:
    """Neither msgpack nor JSON knows it."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        import threading

        self.lock = threading.Lock()

    def __repr__(self) -> str:
        return "<opaque>"


def opaque_node(state: Log) -> dict[str, Any]:
    return {"log": [Opaque()]}


opaque = line(opaque_node).compile()


def awkward_node(state: Log, writer: StreamWriter) -> dict[str, Any]:
    writer({"nan": float("nan"), "big": 2**70, "nul": "a\0b", "lone": "\ud800", "odd": Opaque(), 1: {1, 2}})
    return {"log": ["a\0b", float("inf")]}


awkward = line(awkward_node).compile()


class Deltas(TypedDict):
    log: Annotated[list[Any], DeltaChannel(lambda old, new: [*old, *[x for one in new for x in one]])]


def delta_node(state: Deltas) -> dict[str, Any]:
    return {"log": ["delta"]}


delta = line(delta_node, state=Deltas).compile()


@task
async def double(number: int) -> int:
    return number * 2


@entrypoint()
async def functional(number: int) -> int:
    return await double(number)


def fan(state: Log) -> Command[Any]:
    return Command(goto=[Send("leaf", {"log": [n]}) for n in range(2)])


def leaf(state: Log) -> dict[str, Any]:
    return {"log": [f"leaf {state['log'][0]}"]}


fan_builder = StateGraph(Log)
fan_builder.add_node("fan", fan, destinations=("leaf",))
fan_builder.add_node("leaf", leaf)
fan_builder.add_edge(START, "fan")
fanned = fan_builder.compile()


parallel_builder = StateGraph(Log)
for node in (first, second):
    parallel_builder.add_node(node.__name__, node)
    parallel_builder.add_edge(START, node.__name__)
parallel = parallel_builder.compile()


def ask_parent(state: Log) -> Command[Any]:
    return Command(graph=Command.PARENT, update={"log": ["up"]}, goto="elsewhere")


asks_parent = line(ask_parent).compile()


def talks(state: Log, writer: StreamWriter) -> dict[str, Any]:
    for number in range(3):
        writer({"number": number})
    return {"log": ["talked"]}


talker = line(talks).compile()

calls: list[tuple[str, Any]] = []
"""What the factories below were called with, and when they were left."""


def plain_factory() -> Any:
    calls.append(("plain", None))
    return line(echo_node)


async def config_factory(config: RunnableConfig) -> Any:
    calls.append(("config", config["configurable"].get("flavour")))
    return line(echo_node).compile()


async def runtime_factory(config: RunnableConfig, runtime: ServerRuntime[Context]) -> Any:
    execution = runtime.execution_runtime
    calls.append((runtime.access_context, execution.context.model if execution else None))
    return line(echo_node).compile()


@asynccontextmanager
async def async_context_factory(config: RunnableConfig) -> AsyncIterator[Any]:
    calls.append(("enter", None))
    try:
        yield line(echo_node).compile()
    finally:
        calls.append(("leave", None))


@contextmanager
def context_factory(anything: dict[str, Any]) -> Iterator[Any]:
    calls.append(("enter", anything["configurable"].get("flavour")))
    try:
        yield line(fails).compile()
    except ValueError:
        calls.append(("hid", None))  # a factory may not hide that its graph failed
    finally:
        calls.append(("leave", None))


def broken_factory() -> Any:
    sys.exit("no")


def odd_factory(config: RunnableConfig, database: str, cache: str) -> Any:
    return line(echo_node)


def wrong_factory() -> Any:
    return "not a graph"


not_a_graph = 5


class Unschemed(TypedDict):
    log: Annotated[list[Opaque], operator.add]


unschemed = line(opaque_node, state=Unschemed).compile()


class Untracked(TypedDict):
    log: Annotated[list[Any], operator.add]
    token: Annotated[str, UntrackedValue]


def sign_in(state: Untracked) -> dict[str, Any]:
    return {"log": ["signed in"], "token": "secret"}


untracked = line(sign_in, state=Untracked).compile()


class Modelled(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages]


async def model_node(state: Modelled) -> dict[str, Any]:
    return {"messages": [AIMessage("modelled")]}


modelled = line(model_node, state=Modelled).compile()


def ask_in_chat(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(interrupt("well?"))]}


half_builder = StateGraph(MessagesState)
half_builder.add_node("agent", _chat(ScriptedModel()))
half_builder.add_node("ask", ask_in_chat)
half_builder.add_edge(START, "agent")
half_builder.add_edge(START, "ask")
half = half_builder.compile()
