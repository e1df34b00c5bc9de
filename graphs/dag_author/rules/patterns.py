"""Small phrases to look for in tokens, written as they are read: `every <n> <unit>`.

A word is itself, `a|b` one of several, `(a)` may be missing, `<name>` is a slot that reads one or more
tokens and gives a value. Phrases are tried at each place; the longest wins, the earlier on a tie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs.dag_author.rules.tokens import Kind, Token

Slot = Callable[[Sequence[Token], int], tuple[Any, int] | None]
Values = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """A pattern and what it means: a function from the slots' values to a fact, or None for no match."""

    pattern: str
    meaning: Callable[[Values], Any]
    parts: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    fact: Any
    start: int
    end: int


def phrase(pattern: str, meaning: Callable[[Values], Any]) -> Phrase:
    return Phrase(pattern=pattern, meaning=meaning, parts=tuple(pattern.split()))


def search(tokens: Sequence[Token], phrases: Sequence[Phrase], slots: Mapping[str, Slot]) -> list[Found]:
    """All phrases found from left to right; none overlap."""
    found: list[Found] = []
    place = 0
    while place < len(tokens):
        best = _best(tokens, place, phrases, slots)
        if best is not None:
            found.append(best)
        place = best.end if best else place + 1
    return found


def without(tokens: Sequence[Token], found: Sequence[Found]) -> list[Token]:
    """The tokens that belong to none of these."""
    gone = {place for item in found for place in range(item.start, item.end)}
    return [token for place, token in enumerate(tokens) if place not in gone]


def _best(tokens: Sequence[Token], place: int, phrases: Sequence[Phrase], slots: Mapping[str, Slot]) -> Found | None:
    best: Found | None = None
    for candidate in phrases:
        matched = _match(candidate.parts, tokens, place, slots)
        if matched is None or matched[1] <= (best.end if best else place):
            continue
        fact = candidate.meaning(matched[0])
        if fact is not None:
            best = Found(fact=fact, start=place, end=matched[1])
    return best


def _match(
    parts: Sequence[str], tokens: Sequence[Token], place: int, slots: Mapping[str, Slot]
) -> tuple[Values, int] | None:
    if not parts:
        return {}, place
    part, rest = parts[0], parts[1:]
    optional = part.startswith("(")
    bare = part.strip("()")
    step = _one(bare, tokens, place, slots)
    if step is not None:
        after = _match(rest, tokens, step[1], slots)
        if after is not None:
            return ({bare.strip("<>"): step[0]} | after[0] if bare.startswith("<") else after[0]), after[1]
    return _match(rest, tokens, place, slots) if optional else None


def _one(part: str, tokens: Sequence[Token], place: int, slots: Mapping[str, Slot]) -> tuple[Any, int] | None:
    if part.startswith("<"):
        return slots[part.strip("<>")](tokens, place)
    if place < len(tokens) and tokens[place].kind is not Kind.QUOTED and tokens[place].plain in part.split("|"):
        return tokens[place].plain, place + 1
    return None
