"""Graphs for the tests through the front door. Each shows one way a graph can behave."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt


class Log(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]
    value: Any


class Steps(TypedDict, total=False):
    left: int
    pause: float
    done: Annotated[list[int], operator.add]
    gate: str


class Chat(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]


class Context(TypedDict, total=False):
    tone: str


def build(state: type[Any], **nodes: Any) -> StateGraph[Any, Any, Any, Any]:
    """A line of nodes in the order given."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(state)
    previous = START
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(previous, name)
        previous = name
    builder.add_edge(previous, END)
    return builder


def _say(word: str) -> Any:
    async def node(state: Log) -> Log:
        return {"log": [word]}

    return node


async def _keep(state: Log) -> Log:
    return {"log": [state.get("value")]}


async def _step(state: Steps) -> Steps:
    """One superstep: waits for `pause` seconds, or until the file `gate` exists."""
    if gate := state.get("gate"):
        while not Path(gate).exists():
            await asyncio.sleep(0.02)
    if state.get("pause"):
        await asyncio.sleep(state["pause"])
    return {"left": state["left"] - 1, "done": [state["left"]]}


def _more(state: Steps) -> Literal["step", "__end__"]:
    return "step" if state["left"] > 0 else "__end__"


def _ask(state: Log) -> Log:
    first = interrupt({"question": "first?"})
    second = interrupt({"question": "second?"})
    return {"log": [first, second]}


class Odd(BaseException):
    """Not an Exception: what careless code catches does not catch it."""


def _fail(state: Log) -> Log:
    match state.get("value"):
        case "value":
            raise ValueError("boom happened")
        case "exit":
            raise SystemExit(3)
        case "base":
            raise Odd("odd indeed")
        case "keyboard":
            raise KeyboardInterrupt
        case "unserialisable":
            return {"value": lambda: None}
        case "cancelled":
            raise asyncio.CancelledError("not really")
        case "surrogate":
            return {"value": "a\ud800b"}
        case "nan":
            return {"value": float("nan")}
        case "nul":
            return {"value": "a\0b"}
        case "huge":
            return {"value": 2**70}
    return {"log": ["fine"]}


def _sleep(state: Log) -> Log:
    time.sleep(state["value"])
    return {"log": ["slept"]}


async def _block(state: Log) -> Log:
    time.sleep(state["value"])  # noqa: ASYNC251  what a careless author writes; the server must notice
    return {"log": ["blocked"]}


async def _tell(state: Log) -> Log:
    writer = get_stream_writer()
    for number in range(state.get("value") or 3):
        writer({"n": number})
    return {"log": ["told"]}


class Parrot(BaseChatModel):
    """Streams its answer word by word; asks for the tool `look` when told to."""

    @property
    def _llm_type(self) -> str:
        return "parrot"

    def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            return AIMessage(content="I looked.")
        if "look" in str(last.content):
            return AIMessage(content="", tool_calls=[{"name": "look", "args": {"at": "this"}, "id": "call_1"}])
        return AIMessage(content="Polly wants a cracker")

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages)
        if answer.tool_calls:
            call = answer.tool_calls[0]
            part = {"name": call["name"], "args": '{"at": "this"}', "id": call["id"], "index": 0}
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[part]))  # type: ignore[list-item]
            return
        for word in str(answer.content).split(" "):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=word + " "))
            if run_manager:
                run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk


async def _talk(state: Chat) -> dict[str, Any]:
    return {"messages": [await Parrot().ainvoke(state["messages"])]}


async def _tools(state: Chat) -> dict[str, Any]:
    last = state["messages"][-1]
    assert isinstance(last, AIMessage)
    return {"messages": [ToolMessage(content="seen", tool_call_id=last.tool_calls[0]["id"])]}


def _next(state: Chat) -> Literal["tools", "__end__"]:
    last = state["messages"][-1]
    return "tools" if isinstance(last, AIMessage) and last.tool_calls else "__end__"


def _chat() -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Chat)
    builder.add_node("talk", _talk)
    builder.add_node("tools", _tools)
    builder.add_edge(START, "talk")
    builder.add_conditional_edges("talk", _next)
    builder.add_edge("tools", "talk")
    return builder


async def _tone(state: Log, runtime: Runtime[Context]) -> Log:
    return {"log": [(runtime.context or {}).get("tone", "plain")]}


async def _remember(state: Log, runtime: Runtime[Any]) -> Log:
    assert runtime.store is not None
    await runtime.store.aput(("notes",), "last", {"text": state["value"]})
    found = await runtime.store.aget(("notes",), "last")
    return {"log": [found.value["text"] if found else None]}


async def _configurable(state: Log, config: RunnableConfig) -> Log:
    return {"log": [{k: v for k, v in config["configurable"].items() if isinstance(v, str) and not k.startswith("__")}]}


async def _route(state: Log) -> Command[Literal["left", "right"]]:
    return Command(goto="left" if state.get("value") == "left" else "right", update={"log": ["routed"]})


def _routes() -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Log)
    builder.add_node("route", _route)
    builder.add_node("left", _say("left"))
    builder.add_node("right", _say("right"))
    builder.add_edge(START, "route")
    return builder


def _steps() -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Steps)
    builder.add_node("step", _step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", _more)
    return builder


echo = build(Log, keep=_keep)
line = build(Log, one=_say("one"), two=_say("two")).compile()
steps = _steps()
ask = build(Log, before=_say("before"), ask=_ask, after=_say("after"))
fail = build(Log, before=_say("before"), fail=_fail)
sleepy = build(Log, sleep=_sleep)
blocking = build(Log, block=_block)
custom = build(Log, tell=_tell)
chat = _chat()
parent = build(Log, outer=_say("outer"), sub=build(Log, inner=_say("inner"), ask=_ask).compile(), last=_say("last"))
talking = build(Chat, sub=_chat().compile())
tone = StateGraph(Log, context_schema=Context)
tone.add_node("tone", _tone)
tone.add_edge(START, "tone")
tone.add_edge("tone", END)
remember = build(Log, remember=_remember)
configurable = build(Log, show=_configurable)
routes = _routes()


@asynccontextmanager
async def factory(config: RunnableConfig) -> AsyncIterator[Any]:
    """A graph made anew for each access, from its configuration."""
    word = config.get("configurable", {}).get("word", "default")
    yield build(Log, made=_say(word))
