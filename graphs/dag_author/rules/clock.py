"""Slots of the time phrases: numbers, clock times, weekdays, months, days of the month."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphs.dag_author.problems import Code, Refused
from graphs.dag_author.rules.lexicon import is_verb
from graphs.dag_author.rules.patterns import Found, Slot
from graphs.dag_author.rules.tokens import Kind, Token


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Clock:
    hour: int
    minute: int = 0


_NUMBERS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30,
    "forty-five": 45, "sixty": 60, "ninety": 90, "other": 2,
}  # fmt: skip
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "tenth": 10, "fifteenth": 15}
_UNITS = {
    "minute": "minute", "min": "minute", "hour": "hour", "hr": "hour", "day": "day", "night": "day",
    "morning": "morning",
    "evening": "evening", "week": "week", "month": "month", "quarter": "quarter", "year": "year",
}  # fmt: skip
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_SHORT = {"tuesday": "tues", "wednesday": "weds", "thursday": "thurs"}
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip
_PARTS_OF_DAY = {"midnight": Clock(hour=0), "noon": Clock(hour=12), "midday": Clock(hour=12)}
_CADENCES = (
    "daily",
    "nightly",
    "day",
    "night",
    "weekly",
    "monthly",
    "weekdays",
    *(f"{d}s" for d in _WEEKDAYS),
    *_WEEKDAYS,
)
_AFTERNOON = ("afternoon", "evening", "tonight")


def _number(tokens: Sequence[Token], place: int) -> tuple[int, int] | None:
    token = _at(tokens, place)
    if token is None:
        return None
    if token.kind is Kind.NUMBER and token.text.isdecimal() and len(token.text) <= 5:
        return int(token.text), place + 1
    value = _NUMBERS.get(token.plain)
    return None if value is None else (value, place + 1)


def _unit(tokens: Sequence[Token], place: int) -> tuple[str, int] | None:
    token = _at(tokens, place)
    unit = _UNITS.get(re.sub(r"s$", "", token.plain)) if token else None
    return None if unit is None else (unit, place + 1)


def _time(tokens: Sequence[Token], place: int) -> tuple[Clock, int] | None:
    """A clock time: 6am, 7:30, 18h, noon, six in the morning. A bare number only from 0 to 23."""
    token = _at(tokens, place)
    if token is None:
        return None
    if token.plain in _PARTS_OF_DAY:
        return _PARTS_OF_DAY[token.plain], place + 1
    if token.kind is Kind.CLOCK:
        clock = _clock(token.plain)
        after = place + 1
    else:
        number = _number(tokens, place)
        if number is None or token.plain in ("a", "an", "other") or number[0] > 23:
            return None
        clock, after = Clock(hour=number[0]), number[1]
    if clock is None:
        return None
    if _words(tokens, after, "o'clock") or _words(tokens, after, "o’clock"):
        after += 1
    half = next((w for w in ("am", "pm") if _words(tokens, after, w)), None)
    if half:
        return Clock(hour=clock.hour % 12 + (12 if half == "pm" else 0), minute=clock.minute), after + 1
    return _part_of_day(tokens, clock, after)


def _part_of_day(tokens: Sequence[Token], clock: Clock, after: int) -> tuple[Clock, int]:
    for lead in (["in", "the"], ["at"], []):
        if _words(tokens, after, *lead):
            token = _at(tokens, after + len(lead))
            word = token.plain if token else ""
            if (word in ("morning", *_AFTERNOON) and lead != ["at"]) or (word == "night" and lead == ["at"]):
                late = word in _AFTERNOON or (word == "night" and clock.hour >= 6)
                hour = clock.hour + 12 if late and clock.hour < 12 else clock.hour
                return Clock(hour=hour, minute=clock.minute), after + len(lead) + 1
    return clock, after


def _clock(text: str) -> Clock | None:
    match = re.fullmatch(r"(\d{1,2})(?:[:h](\d{2})?)?\s?(am|pm|a\.m\.|p\.m\.)?", text)
    if match is None:
        return None
    hour, minute, half = (
        int(match.group(1)),
        int(match.group(2) or 0),
        (match.group(3) or "").replace(".", ""),
    )
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "pm" else 0)
    return Clock(hour=hour, minute=minute) if hour <= 23 and minute <= 59 else None


_LEADS = ("at", "around", "about", "by", "@")
_JOINS = ("and", ",", "&", "or", "to", "until", "till", "through")


def refuse_impossible(tokens: Sequence[Token], found: Sequence[Found]) -> None:
    """Refused for what can only be meant as a time of day and is none: at 25:00, 6:60 after a time, 13pm."""
    ends = {item.end for item in found}
    taken = {place for item in found for place in range(item.start, item.end)}
    for place, token in enumerate(tokens):
        if place in taken or not _is_no_time(tokens, place):
            continue
        before = tokens[place - 1].plain if place else ""
        joined = place in ends or (before in _JOINS and place - 1 in ends)
        if before in _LEADS or joined or re.search(r"m\.?$", token.plain):
            raise Refused.because(
                Code.SCHEDULE_INVALID,
                "schedule",
                "is no time of day",
                got=token.text,
                allowed="00:00 to 23:59, or 12am to 11:59pm",
            )


def _is_no_time(tokens: Sequence[Token], place: int) -> bool:
    token = tokens[place]
    if token.kind is Kind.CLOCK:
        return _clock(token.plain) is None
    if token.kind is not Kind.NUMBER or not token.text.isdecimal() or int(token.text[:4]) <= 23:
        return False
    if not place or tokens[place - 1].plain != "at":
        return False
    after = _at(tokens, place + 1)
    digits = _at(tokens, place + 2)
    if after is not None and after.plain == ":" and digits is not None and digits.kind is Kind.NUMBER:
        return True  # at 100:00
    # A count is followed by what it counts, and no cadence comes before it: daily at 25, but not: alert at 90.
    alone = after is None or after.kind in (Kind.MARK, Kind.PLACE) or is_verb(tokens, place + 1)
    return alone and place > 1 and tokens[place - 2].plain in _CADENCES


def _weekday(tokens: Sequence[Token], place: int) -> tuple[int, int] | None:
    token = _at(tokens, place)
    word = token.plain if token else ""
    for number, name in enumerate(_WEEKDAYS):
        short = (name[:3], {"tuesday": "tues", "thursday": "thurs", "wednesday": "weds"}.get(name, name[:3]))
        if word in (name, name + "s") or (word in short and word != "sun" and word != "sat") or word in short[:1]:
            return number, place + 1
    return None


def _month(tokens: Sequence[Token], place: int) -> tuple[int, int] | None:
    token = _at(tokens, place)
    if token is not None and token.plain in _MONTHS:
        return _MONTHS.index(token.plain) + 1, place + 1
    return None


def _day_of_month(tokens: Sequence[Token], place: int) -> tuple[int, int] | None:
    token = _at(tokens, place)
    if token is None:
        return None
    if token.plain in _ORDINALS:
        return _ORDINALS[token.plain], place + 1
    match = re.fullmatch(r"(\d{1,2})(st|nd|rd|th)", token.plain)
    return (int(match.group(1)), place + 1) if match and 1 <= int(match.group(1)) <= 31 else None


def several(slot: Slot) -> Slot:
    """One or more values of a slot, joined by commas, `and`, `&`."""

    def read(tokens: Sequence[Token], place: int) -> tuple[list[Any], int] | None:
        first = slot(tokens, place)
        if first is None:
            return None
        values, end = [first[0]], first[1]
        while (token := _at(tokens, end)) is not None and token.plain in (",", "and", "&"):
            step = end + 1
            if token.plain == "," and _words(tokens, step, "and"):
                step += 1
            while _at(tokens, step) is not None and tokens[step].plain in ("the", "on", "at"):
                step += 1
            more = slot(tokens, step)
            if more is None:
                break
            values.append(more[0])
            end = more[1]
        return values, end

    return read


def _at(tokens: Sequence[Token], place: int) -> Token | None:
    return tokens[place] if place < len(tokens) else None


def _words(tokens: Sequence[Token], place: int, *words: str) -> bool:
    return [token.plain for token in tokens[place : place + len(words)]] == list(words)


def _certain(slot: Slot, allowed: Callable[[Token], bool]) -> Slot:
    def read(tokens: Sequence[Token], place: int) -> tuple[Any, int] | None:
        token = _at(tokens, place)
        return slot(tokens, place) if token is not None and allowed(token) else None

    return read


SLOTS: Mapping[str, Slot] = {
    "n": _number,
    "unit": _unit,
    "time": _time,
    "times": several(_time),
    # Without "at" only what cannot be a count: 6am, 7:30, noon.
    "sure_times": several(_certain(_time, lambda t: t.kind is Kind.CLOCK or t.plain in _PARTS_OF_DAY)),
    "weekday": _weekday,
    "weekdays": several(_weekday),
    "month": _month,
    "day": _day_of_month,
    "days": several(_day_of_month),
}
