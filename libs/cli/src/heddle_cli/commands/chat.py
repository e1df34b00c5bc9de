"""Talk to an agent on a running server.

With TEXT it sends that and prints the answer. Without, it is an interactive chat: history with the arrow keys,
Ctrl-C stops the current answer, /quit or Ctrl-D leaves. When the agent asks something, you are asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heddle_server.config import StartError

if TYPE_CHECKING:
    from heddle_cli.conversation import Conversation

DEFAULT_ASSISTANT = "dag_author"
_LEAVE = frozenset({"/quit", "/exit"})
Ask = Callable[[str], Awaitable[str]]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="?", metavar="TEXT", help="what to say; without it the chat is interactive")
    parser.add_argument("--url", metavar="URL", help="the server (default: http://127.0.0.1:2024, or HOST and PORT)")
    parser.add_argument(
        "--assistant",
        default=DEFAULT_ASSISTANT,
        metavar="NAME",
        help=f"a graph's name or an assistant's id (default: {DEFAULT_ASSISTANT})",
    )
    parser.add_argument("--thread", metavar="ID", help="go on with this thread (default: a new one)")


def run(options: argparse.Namespace) -> int:
    url = options.url or _default_url()
    if not url.startswith(("http://", "https://")):
        raise StartError(f"--url: {url!r} is not a web address", fix="write it as http://127.0.0.1:2024")
    return asyncio.run(_chat(url.rstrip("/"), options.assistant, options.thread, options.text))


def _default_url() -> str:
    from heddle_cli.network import url

    return url(os.environ.get("HOST") or "127.0.0.1", int(os.environ.get("PORT") or 2024))


async def _chat(url: str, assistant: str, thread_id: str | None, text: str | None) -> int:
    from heddle_cli.conversation import Conversation

    conversation = await Conversation.begin(url, assistant, thread_id, _show)
    try:
        if text is not None:
            return await _turn(conversation, text, _prompt() if sys.stdin.isatty() else None)
        return await _converse(conversation, assistant, url)
    finally:
        await conversation.close()


async def _converse(conversation: Conversation, assistant: str, url: str) -> int:
    ask = _prompt()
    if sys.stdin.isatty():
        print(f"{assistant} at {url}, thread {conversation.thread_id}. /quit leaves, Ctrl-C stops an answer.")
    code = 0
    while True:
        try:
            text = (await ask("> ")).strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return code
        if text in _LEAVE:
            return code
        if text:
            code = await _turn(conversation, text, ask)


async def _turn(conversation: Conversation, text: str, ask: Ask | None) -> int:
    """One message and its answer, with the questions the agent asks on the way."""
    code = await _watch(conversation, conversation.say(text))
    while code == 0 and (questions := await conversation.questions()):
        for question in questions:
            print(f"The agent asks: {_readable(question.get('value'))}")
        if ask is None:
            print(f"answer with: heddle chat --thread {conversation.thread_id}", file=sys.stderr)
            return 0
        try:
            answers = [_value(await ask("answer> ")) for _ in questions]
        except (EOFError, KeyboardInterrupt):
            return 0
        one = answers[0]
        resume = one if len(answers) == 1 else {str(q.get("id")): a for q, a in zip(questions, answers, strict=True)}
        code = await _watch(conversation, conversation.answer(resume))
    return code


async def _watch(conversation: Conversation, work: Any) -> int:
    """Run it; Ctrl-C cancels the run on the server, and the chat goes on."""
    from heddle_cli.conversation import RunFailed

    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        await conversation.cancel()
        print("(stopped)")
        return 130
    except RunFailed as failure:
        print(f"heddle: the run failed: {failure}", file=sys.stderr)
        return 1
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    return 0


def _prompt() -> Ask:
    """A line editor with history on a terminal, plain lines otherwise."""
    if not sys.stdin.isatty():
        return _read_line
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory

    session: PromptSession[str] = PromptSession(history=FileHistory(str(_history_file())))

    async def ask(prompt: str) -> str:
        return str(await session.prompt_async(prompt))

    return ask


async def _read_line(_: str) -> str:
    line: str = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        raise EOFError
    return line


def _history_file() -> Path:
    home = os.environ.get("XDG_STATE_HOME")
    folder = (Path(home) if home else Path.home() / ".local" / "state") / "heddle"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "chat_history"
    file.touch(mode=0o600)
    return file


def _readable(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _value(text: str) -> Any:
    """What the person meant: JSON when it is that, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def _show(text: str) -> None:
    print(text, end="", flush=True)
