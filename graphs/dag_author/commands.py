"""`/agent …`: which command a message is, and the one meant when it is none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphs.dag_author.naming import nearest

USAGE = {
    "create": "/agent create <what the DAG should do>",
    "list": "/agent list",
    "show": "/agent show <dag_id>",
    "help": "/agent help",
}
_COMMAND = re.compile(r"\A\s*/agent(?:\s+(\S+)(?:\s+(.*))?)?\s*\Z", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`action` is one of the commands, `chat` for other text, or `unknown` with the word as `text`."""

    action: str
    text: str = ""


def parse(message: str) -> Command:
    """The command in a message. Text that does not start with `/agent` is chat."""
    match = _COMMAND.match(message)
    if match is None:
        return Command(action="chat", text=message)
    word, rest = (match.group(1) or "help"), (match.group(2) or "").strip()
    action = word.lower()
    return Command(action=action, text=rest) if action in USAGE else Command(action="unknown", text=word)


def meant(word: str) -> str | None:
    """The command a wrong word is nearest to."""
    return nearest(word.lower(), USAGE)


def text_of(content: str | Sequence[Any]) -> str:
    """The text of a message, whose content is a string or a list of content blocks."""
    if isinstance(content, str):
        return content
    pieces = []
    for block in content:
        if isinstance(block, str):
            pieces.append(block)
        elif isinstance(block, Mapping) and isinstance(block.get("text"), str):
            pieces.append(block["text"])
    return "\n".join(pieces)
