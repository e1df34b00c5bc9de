"""One thread with an agent over the public client: send, show what streams back, answer its questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError
from langgraph_sdk.schema import Command, StreamMode

from heddle_server.config import StartError

Show = Callable[[str], None]
Json = Mapping[str, Any]
_MODES: Sequence[StreamMode] = ("custom", "messages-tuple")
_TIMEOUT = (5.0, None, 60.0, 5.0)  # connect, read (an answer may take its time), write, pool


class RunFailed(Exception):
    """The run ended with an error, which the message tells."""


class Conversation:
    """Talks to one assistant on one thread. `show` gets text as it comes, line ends included."""

    def __init__(self, client: LangGraphClient, assistant: str, thread_id: str, show: Show) -> None:
        self._client = client
        self._assistant = assistant
        self.thread_id = thread_id
        self._show = show
        self._run_id: str | None = None
        self._streamed: set[str] = set()
        self._open_line = False
        self._said_something = False

    @classmethod
    async def begin(cls, url: str, assistant: str, thread_id: str | None, show: Show) -> Conversation:
        """Connect, and make a thread unless one is named. Raises StartError when that is not possible."""
        client = get_client(url=url, timeout=_TIMEOUT)
        try:
            if thread_id is None:
                thread_id = (await client.threads.create())["thread_id"]
            else:
                await client.threads.get(thread_id)
        except APIStatusError as error:
            await client.aclose()
            raise StartError(
                f"{url} refused the thread: {problem_of(error)}",
                fix="correct --thread, or leave it out for a new one",
            ) from error
        except httpx.HTTPError as error:
            await client.aclose()
            raise StartError(
                f"no server answers at {url} ({type(error).__name__})",
                fix="start one with: make dev (or: heddle dev), or name another with --url",
            ) from error
        return cls(client, assistant, thread_id, show)

    async def close(self) -> None:
        await self._client.aclose()

    async def say(self, text: str) -> None:
        """Send a message and show the answer. Raises RunFailed when the run does not succeed."""
        await self._run({"messages": [{"role": "user", "content": text}]}, None)

    async def answer(self, value: Any) -> None:
        """Resume a run that asked something."""
        await self._run(None, {"resume": value})

    async def questions(self) -> Sequence[Json]:
        """What the agent waits for on this thread: its open interrupts."""
        state = await self._client.threads.get_state(self.thread_id)
        found: list[Json] = [interrupt for task in state["tasks"] for interrupt in task.get("interrupts") or ()]
        return found

    async def values(self) -> Json:
        """The state of the thread."""
        state = await self._client.threads.get_state(self.thread_id)
        values: Json = state["values"] if isinstance(state["values"], dict) else {}
        return values

    async def cancel(self) -> None:
        """Stop the current run, if there is one."""
        if self._run_id is not None:
            await self._client.runs.cancel(self.thread_id, self._run_id)
            self._end_line()

    async def _run(self, message: Json | None, command: Command | None) -> None:
        self._said_something = False
        try:
            events = self._client.runs.stream(
                self.thread_id,
                self._assistant,
                input=message,
                command=command,
                stream_mode=_MODES,
                multitask_strategy="reject",
            )
            failure = ""
            async for event in events:  # to its end: a stream that is left in the middle is never closed
                failure = self._take(event.event, event.data) or failure
        except APIStatusError as error:
            raise RunFailed(problem_of(error)) from error
        except httpx.HTTPError as error:
            raise RunFailed(f"the connection to the server broke ({type(error).__name__})") from error
        finally:
            self._end_line()
        self._run_id = None
        if failure:
            raise RunFailed(failure)
        await self._show_values()

    async def _show_values(self) -> None:
        """The answer of a graph that has no messages: its final values. A question shows itself."""
        if self._said_something or await self.questions():
            return
        values = await self.values()
        if "messages" not in values:
            self._show(f"{json.dumps(values, ensure_ascii=False, indent=2)}\n")

    def _take(self, kind: str, data: Any) -> str:
        """Show an event. Returns why the run failed, if that is what the event says."""
        name = kind.partition("|")[0]
        if name == "metadata":
            self._run_id = data.get("run_id")
        elif name == "error":
            return f"{data.get('error', 'error')}: {data.get('message', '')}".rstrip(": ")
        elif name == "custom":
            self._end_line()
            self._show(f"{describe_progress(data)}\n")
        elif name == "messages":
            self._take_message(data[0])
        return ""

    def _take_message(self, message: Json) -> None:
        """Show a piece of a model's answer as it comes, and a whole message unless it came in pieces."""
        kind, identity = message.get("type"), str(message.get("id"))
        text = text_of(message.get("content"))
        if kind == "AIMessageChunk":
            self._streamed.add(identity)
        elif kind != "ai" or identity in self._streamed:
            return
        else:
            self._streamed.add(identity)
            self._end_line()
        if text:
            self._said_something = True
            self._show(text)
            self._open_line = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._open_line:
            self._show("\n")
            self._open_line = False


def text_of(content: Any) -> str:
    """The text of a message: it may be a string or a list of blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(
        block if isinstance(block, str) else str(block.get("text") or "")
        for block in content
        if isinstance(block, str | dict)
    )


def describe_progress(data: Any) -> str:
    """A custom event as one line: a step by its name and what it says, anything else as JSON."""
    if isinstance(data, str):
        return f"  - {data}"
    if not isinstance(data, dict) or not isinstance(step := data.get("step"), str):
        return f"  - {json.dumps(data, ensure_ascii=False, default=str)}"
    said = next((data[key] for key in ("message", "detail", "text") if isinstance(data.get(key), str)), "")
    rest = {key: value for key, value in data.items() if key not in ("name", "step", "message", "detail", "text")}
    facts = ", ".join(
        f"{key} {value}"
        for key, value in rest.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    )
    return f"  - {step}" + (f": {said}" if said else "") + (f" ({facts})" if facts else "")


def problem_of(error: APIStatusError) -> str:
    """What the server said was wrong."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("detail"), str):
        return str(body["detail"])
    return str(error)
