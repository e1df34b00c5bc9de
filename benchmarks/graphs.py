"""The graphs that are measured: each does next to nothing, so that what is seen is the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, TypedDict

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages


class Text(TypedDict, total=False):
    text: str


class Count(TypedDict, total=False):
    left: int


class Chat(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]


class Big(TypedDict, total=False):
    blob: str
    touches: int


def _echo(state: Text) -> Text:
    return {"text": state.get("text", "")}


async def _aecho(state: Text) -> Text:
    return {"text": state.get("text", "")}


async def _step(state: Count) -> Count:
    return {"left": state["left"] - 1}


async def _events(state: Count) -> Count:
    writer = get_stream_writer()
    for number in range(state["left"]):
        writer({"n": number})
    return {"left": 0}


async def _reply(state: Chat) -> dict[str, Any]:
    return {"messages": [AIMessage(content="ok")]}


async def _touch(state: Big) -> Big:
    return {"touches": state.get("touches", 0) + 1}


class Talker(BaseChatModel):
    """A chat model that says `tokens` words, each after `pause` seconds."""

    tokens: int = 200
    pause: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "talker"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="word " * self.tokens))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for _ in range(self.tokens):
            yield ChatGenerationChunk(message=AIMessageChunk(content="word "))

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for _ in range(self.tokens):
            if self.pause:
                await asyncio.sleep(self.pause)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content="word "))
            if run_manager:
                await run_manager.on_llm_new_token("word ", chunk=chunk)
            yield chunk


def _talk(model: Talker) -> Any:
    async def talk(state: Chat) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return talk


def _one(state: type[Any], node: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(state)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder


def _loop(state: type[Any], node: Any, more: Any) -> StateGraph[Any, Any, Any, Any]:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(state)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_conditional_edges("node", more, {True: "node", False: END})
    return builder


echo = _one(Text, _aecho)
sync_echo = _one(Text, _echo)
steps = _loop(Count, _step, lambda state: state["left"] > 0)
customs = _one(Count, _events)
chat = _one(Chat, _reply)
talker = _one(Chat, _talk(Talker()))
paced = _one(Chat, _talk(Talker(tokens=40, pause=0.02)))
big = _loop(Big, _touch, lambda state: state["touches"] < 5)
