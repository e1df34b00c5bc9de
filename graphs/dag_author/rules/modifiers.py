"""What a request says about the DAG as a whole: its name, owner, tags, retries, start, catching up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from graphs.dag_author.rules.clock import SLOTS
from graphs.dag_author.rules.patterns import Slot, phrase, search, without
from graphs.dag_author.rules.tokens import Kind, Token

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def _name(tokens: Sequence[Token], place: int) -> tuple[str, int] | None:
    if place < len(tokens) and tokens[place].kind in (Kind.QUOTED, Kind.WORD):
        return tokens[place].text, place + 1
    return None


def _quoted(tokens: Sequence[Token], place: int) -> tuple[str, int] | None:
    return _name(tokens, place) if place < len(tokens) and tokens[place].kind is Kind.QUOTED else None


def _date(tokens: Sequence[Token], place: int) -> tuple[str, int] | None:
    if place < len(tokens) and _DATE.fullmatch(tokens[place].text):
        return tokens[place].text, place + 1
    return None


def _names(tokens: Sequence[Token], place: int) -> tuple[list[str], int] | None:
    first = _name(tokens, place)
    if first is None:
        return None
    found, end = [first[0]], first[1]
    # A comma also separates steps, so only words right after "and" or "," with nothing behind them are tags.
    while end + 1 < len(tokens) and tokens[end].plain in (",", "and"):
        more = _name(tokens, end + 1)
        stop = end + 2 >= len(tokens) or tokens[end + 2].kind is Kind.MARK or tokens[end + 2].plain == "and"
        if more is None or not stop:
            break
        found.append(more[0])
        end = more[1]
    return found, end


_SLOTS: Mapping[str, Slot] = {
    "name": _name,
    "quoted": _quoted,
    "date": _date,
    "names": _names,
    "n": SLOTS["n"],
}
_PHRASES = (
    phrase("(,) called|named|titled <name>", lambda v: {"dag_name": v["name"]}),
    phrase("pipeline|dag|workflow|job <quoted>", lambda v: {"dag_name": v["quoted"]}),
    phrase("(,) (with) owner (is|=|:) <name>", lambda v: {"owner": v["name"]}),
    phrase("(,) owned by (the) <name> (team)", lambda v: {"owner": v["name"]}),
    phrase("(,) (with) tags|tag (:) <names>", lambda v: {"tags": v["names"]}),
    phrase("(,) tagged (as|with) <names>", lambda v: {"tags": v["names"]}),
    phrase("(,) (and) (with) <n> retries|retry", lambda v: {"retries": v["n"]}),
    phrase("(,) (and) retry|retries|retrying (up) (to) <n> times", lambda v: {"retries": v["n"]}),
    phrase("(,) starting|beginning (on|from) <date>", lambda v: {"start_date": v["date"]}),
    phrase("(,) from <date> (on|onwards)", lambda v: {"start_date": v["date"]}),
    phrase("(,) (with) start date (of|=|:) <date>", lambda v: {"start_date": v["date"]}),
    phrase("(,) with (a) catchup|backfill", lambda v: {"catchup": True}),
    phrase("(,) without|no catchup|backfill", lambda v: {"catchup": False}),
)


def read(tokens: Sequence[Token]) -> tuple[dict[str, Any], list[Token]]:
    """Fields of the spec that the request sets, and its other words."""
    found = search(tokens, _PHRASES, _SLOTS)
    fields: dict[str, Any] = {}
    for item in found:
        fields |= item.fact
    return fields, without(tokens, found)
