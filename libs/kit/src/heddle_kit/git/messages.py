"""Commit messages and identities: what goes in is cleaned, what comes out is parsed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from heddle_kit.git.port import Identity

SUBJECT_LENGTH = 200
_TRAILER = re.compile(r"^([A-Za-z][A-Za-z0-9-]*): (.*)$")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\u0085\u2028\u2029]+")


def one_line(text: str, limit: int) -> str:
    """The text on one line, without control characters, cut to a length."""
    line = _UNPRINTABLE.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def clean_identity(who: Identity) -> Identity:
    """An identity git will take: it ends a name at `<` and a line at a newline."""
    name = one_line(re.sub(r"[<>]", "", who.name), 100).strip(" .,;:'\"") or "unknown"
    email = re.sub(r"[<>\s]", "", one_line(who.email, 200)) or "unknown@users.invalid"
    return Identity(name=name, email=email)


def compose(subject: str, trailers: Mapping[str, str]) -> str:
    """A commit message: one subject line and, after a blank line, the trailers."""
    lines = [one_line(subject, SUBJECT_LENGTH) or "Change files"]
    if trailers:
        lines += ["", *(f"{key}: {one_line(value, 500)}" for key, value in trailers.items())]
    return "\n".join(lines) + "\n"


def parse_trailers(message: str) -> dict[str, str]:
    """The `Key: value` lines of the last paragraph; empty when that paragraph is not all trailers."""
    paragraphs = message.strip().split("\n\n")
    if len(paragraphs) < 2:
        return {}
    found = [_TRAILER.match(line) for line in paragraphs[-1].split("\n")]
    return {m.group(1): m.group(2) for m in found if m} if all(found) else {}
