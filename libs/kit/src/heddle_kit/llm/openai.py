"""Any service that speaks OpenAI's chat completions, through langchain-openai.

The answer is streamed so that a dead connection is noticed while it dies. The usual client raises nothing
when a stream is cut, so the finish reason is handed on: without one an answer is not whole.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import openai
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from heddle_kit.llm.port import (
    KeyRejected,
    ModelFault,
    Refusal,
    Reply,
    RequestRejected,
    Role,
    TimedOut,
    Turn,
    Unreachable,
)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 20.0
MAX_ATTEMPTS = 8
_MESSAGES: dict[Role, type[BaseMessage]] = {
    Role.SYSTEM: SystemMessage,
    Role.USER: HumanMessage,
    Role.ASSISTANT: AIMessage,
}
# LangGraph shows no token of a call with this tag: half a JSON object is nothing to read in a chat.
_QUIET = {"tags": ["nostream"]}


class _Chat(ChatOpenAI):
    """The client, keeping the refusal of a streamed answer, which it would otherwise drop."""

    def _convert_chunk_to_generation_chunk(self, chunk: Any, *rest: Any) -> ChatGenerationChunk | None:
        found = super()._convert_chunk_to_generation_chunk(chunk, *rest)
        choices = chunk.get("choices") or [{}]
        refusal = (choices[0].get("delta") or {}).get("refusal")
        if found is not None and refusal:
            found.message.additional_kwargs["refusal"] = refusal
        return found


class OpenAIModel:
    """One model of one service, with one deadline for everything it is asked."""

    def __init__(self, *, name: str, api_key: str, base_url: str | None, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._timeout = timeout
        self._chat = _Chat(
            model=name,
            api_key=SecretStr(api_key),
            base_url=base_url,
            timeout=timeout,
            max_retries=0,  # retrying is done here, where the deadline is known
            streaming=True,
        )

    async def ask(self, turns: Sequence[Turn], *, tool: str, about: str, schema: Mapping[str, Any]) -> Reply:
        """One answer. Overload and failures of the service are tried again until the deadline."""
        function = {"name": tool, "description": about, "parameters": dict(schema)}
        chat = self._chat.bind_tools([{"type": "function", "function": function}], tool_choice=tool)
        messages = [_MESSAGES[turn.role](content=turn.text) for turn in turns]
        for attempt in range(MAX_ATTEMPTS):
            try:
                async with asyncio.timeout(self._left()):
                    return await self._stream(chat, messages)
            except TimeoutError as fault:
                raise self._timed_out() from fault
            except openai.APITimeoutError as fault:
                raise self._timed_out() from fault
            except openai.APIStatusError as fault:
                await self._after_status(fault, attempt)
            except openai.APIConnectionError as fault:
                await self._pause(_backoff(attempt), Unreachable("no connection to the model service"), fault)
            except openai.OpenAIError as fault:
                raise Unreachable(f"the model service failed ({type(fault).__name__})") from fault
        raise Unreachable(f"the model service failed {MAX_ATTEMPTS} times")

    async def _stream(self, chat: Any, messages: Sequence[BaseMessage]) -> Reply:
        whole: AIMessageChunk | None = None
        async for chunk in chat.astream(messages, config=_QUIET):
            whole = chunk if whole is None else whole + chunk
        if whole is None:
            return Reply(text="", calls=(), refusal=None, finish=None)
        refusal = whole.additional_kwargs.get("refusal")
        return Reply(
            text=_text(whole.content),
            calls=tuple(str(call.get("args") or "") for call in whole.tool_call_chunks),
            refusal=Refusal(text=str(refusal)) if refusal else None,
            finish=whole.response_metadata.get("finish_reason"),
        )

    async def _after_status(self, fault: openai.APIStatusError, attempt: int) -> None:
        status = fault.status_code
        if status in (401, 403):
            raise KeyRejected(f"the model service answered {status}: the key or its rights are wrong") from None
        if status == 429 or status >= 500 or status in (408, 409):
            wait = _retry_after(fault.response.headers.get("retry-after", "")) or _backoff(attempt)
            await self._pause(wait, Unreachable(f"the model service answered {status}"), None)
            return
        raise RequestRejected(f"the model service answered {status} to this request") from None

    async def _pause(self, seconds: float, fault: ModelFault, cause: Exception | None) -> None:
        """Wait before the next try; raise the fault when the deadline would pass meanwhile."""
        if seconds >= self._left() or self._left() <= 0:
            raise fault from cause
        await asyncio.sleep(seconds)

    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 0.0)

    def _timed_out(self) -> TimedOut:
        return TimedOut(f"the model did not answer within {self._timeout:g} s")


def _text(content: str | list[Any]) -> str:
    if isinstance(content, str):
        return content
    pieces = (block if isinstance(block, str) else str(block.get("text") or "") for block in content)
    return "".join(pieces)


def _backoff(attempt: int) -> float:
    longest: float = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
    return longest - random.uniform(0, longest / 4)  # nosec B311


def _retry_after(text: str) -> float | None:
    try:
        return max(float(text), 0.0)
    except ValueError:
        return None
