"""When: the phrases that say how often and at what time."""

from __future__ import annotations

import re
from collections.abc import Callable

from graphs.dag_author.rules import zones
from graphs.dag_author.rules.cadence import (
    At,
    Between,
    Every,
    Fact,
    Impossible,
    Kept,
    Manual,
    On,
    PastHour,
    Times,
    Timing,
    Usually,
    combine,
)
from graphs.dag_author.rules.clock import SLOTS, Clock, refuse_impossible
from graphs.dag_author.rules.patterns import Found, Values, phrase, search, without
from graphs.dag_author.rules.tokens import Token, tokenize

_WORKDAYS = (1, 2, 3, 4, 5)
_WORKING = On(weekdays=_WORKDAYS)
_MORNING, _EVENING = Clock(hour=6), Clock(hour=18)


def _every(values: Values) -> Fact | tuple[Fact, ...]:
    number, unit = int(values.get("n", 1)), str(values["unit"])
    if unit in ("morning", "evening"):
        return (Every(number=number, unit="day"), Usually(clock=_MORNING if unit == "morning" else _EVENING))
    return Every(number=number, unit=unit)


def _at(values: Values) -> Fact:
    return At(clocks=tuple(values.get("times") or values["sure_times"]))


def _on(values: Values) -> Fact:
    return On(weekdays=tuple(values["weekdays"]))


def _span_of_days(values: Values) -> Fact:
    first, last = values["weekday"], values["weekdays"][0]
    return On(weekdays=tuple((first + n) % 7 for n in range((last - first) % 7 + 1)))


def _days(values: Values) -> tuple[Fact, ...]:
    return (On(days=tuple(values["days"])), Every(number=1, unit="month"))


def _date(values: Values) -> tuple[Fact, ...]:
    return (On(days=(values["day"],), month=values["month"]), Every(number=1, unit="year"))


def _between(values: Values) -> Fact | None:
    first, last = values["time"].hour, values["times"][0].hour
    return Between(first=first, last=last) if first < last else None


def _fixed(*facts: Fact) -> Callable[[Values], tuple[Fact, ...]]:
    return lambda values: facts


def _adjective(number: int, unit: str) -> Callable[[Values], tuple[Fact, ...]]:
    return _fixed(Every(number=number, unit=unit, adjective=True))


_LAST_DAY = Impossible(what="the last day of a month", instead="the first day of the month")

PHRASES = (
    phrase("every|each <unit>", _every),
    phrase("once a|per|every|each <unit>", _every),
    phrase("every|each <n> <unit>", _every),
    phrase("every|each half hour|hours", _fixed(Every(number=30, unit="minute"))),
    phrase("half-hourly", _fixed(Every(number=30, unit="minute"))),
    phrase("every|each quarter of an hour", _fixed(Every(number=15, unit="minute"))),
    phrase("runs|run|running|executes|scheduled hourly", _fixed(Every(number=1, unit="hour"))),
    phrase("runs|run|running|executes|scheduled daily|nightly", _fixed(Every(number=1, unit="day"))),
    phrase("runs|run|running|executes|scheduled weekly", _fixed(Every(number=1, unit="week"))),
    phrase("runs|run|running|executes|scheduled monthly", _fixed(Every(number=1, unit="month"))),
    phrase("runs|run|running|executes|scheduled quarterly", _fixed(Every(number=1, unit="quarter"))),
    phrase("hourly", _adjective(1, "hour")),
    phrase("daily|nightly|overnight", _adjective(1, "day")),
    phrase("weekly", _adjective(1, "week")),
    phrase("biweekly|fortnightly", _adjective(2, "week")),
    phrase("monthly", _adjective(1, "month")),
    phrase("quarterly", _adjective(1, "quarter")),
    phrase("yearly|annually|annual", _adjective(1, "year")),
    phrase("for|per|by every|each <unit>", _fixed(Kept())),
    phrase("twice a|per|every|each <unit>", lambda v: Times(number=2, unit=v["unit"])),
    phrase("twice daily", _fixed(Times(number=2, unit="day"))),
    phrase("twice hourly", _fixed(Times(number=2, unit="hour"))),
    phrase("<n> times a|per|every|each <unit>", lambda v: Times(number=v["n"], unit=v["unit"])),
    phrase("<n> times daily", lambda v: Times(number=v["n"], unit="day")),
    phrase("at <times>", _at),
    phrase("at <times> sharp", _at),
    phrase("<sure_times>", _at),
    phrase("around|about|by <sure_times>", _at),
    phrase("(on) (every|each) (a) weekdays|weekday|workdays|workday", _fixed(_WORKING)),
    phrase("(on) (every|each) business|working|work|week days|day", _fixed(_WORKING)),
    phrase(
        "(on) (every|each) weekdays|weekday morning|mornings",
        _fixed(On(weekdays=_WORKDAYS), Usually(clock=_MORNING)),
    ),
    phrase(
        "(on) (every|each) weekdays|weekday evening|evenings",
        _fixed(On(weekdays=_WORKDAYS), Usually(clock=_EVENING)),
    ),
    phrase("(on|at) (every|each) (the) weekends|weekend", _fixed(On(weekdays=(0, 6)))),
    phrase("(on) (every|each) <weekdays>", _on),
    phrase("(on) (every|each) <weekdays> morning|mornings", lambda v: (_on(v), Usually(clock=_MORNING))),
    phrase("(on) (every|each) <weekdays> evening|evenings", lambda v: (_on(v), Usually(clock=_EVENING))),
    phrase("(from) <weekday> to|through|until|till <weekdays>", _span_of_days),
    phrase("(on) (the) <days> (day) of every|each|the|a month", _days),
    phrase("(on) (the) <days> (day) (of) every|each month", _days),
    phrase("monthly on the <days>", _days),
    phrase("on the <days>", _days),
    phrase("(on) (the) last day of the|every|each month", _fixed(_LAST_DAY)),
    phrase("(on) (the) end of the|every|each month", _fixed(_LAST_DAY)),
    phrase("every|each <month> <day>", _date),
    phrase("on <month> <day>", _date),
    phrase("on the <day> of <month>", _date),
    phrase("between <time> and <times>", _between),
    phrase("from <time> to|until|till <times>", _between),
    phrase("<n> minutes past|after the|every|each hour", lambda v: PastHour(minute=v["n"])),
    phrase("(at) quarter past the|every|each hour", _fixed(PastHour(minute=15))),
    phrase("(at) half past the|every|each hour", _fixed(PastHour(minute=30))),
    phrase("at minute <n>", lambda v: PastHour(minute=v["n"])),
    phrase("on demand", _fixed(Manual())),
    phrase("(only) manually", _fixed(Manual())),
    phrase("manual|manually triggered", _fixed(Manual())),
    phrase("(only) when triggered", _fixed(Manual())),
    phrase("without (a) schedule", _fixed(Manual())),
    phrase("no schedule", _fixed(Manual())),
    phrase("unscheduled", _fixed(Manual())),
)

_NAMED = "sun|mon|tue|wed|thu|fri|sat|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_FIELD = rf"(?:[\d*][\d*,/-]*|(?:{_NAMED})[\w,-]*)"
_CRON = re.compile(rf"(?i)[`'\"]?(?<![\w*/])({_FIELD}(?:[ \t]+{_FIELD}){{4,6}})(?![\w*/])[`'\"]?")
_PRESET_NAMES = "hourly|daily|midnight|weekly|monthly|quarterly|yearly|annually|once|continuous"
_PRESET = re.compile(rf"(?i)(?<!\w)@({_PRESET_NAMES})\b")
# What introduces a cron text goes with it: "with the cron schedule 0 6 * * *".
_LEAD = re.compile(
    r"(?i)\b(?:with|on|using|at)?\s*(?:(?:a|the)\s+)?"
    r"(?:cron(?:tab)?(?:\s+(?:schedule|expression|text))?|schedule)\s*(?:of|is|=|:)?\s*$"
)


def literal(text: str) -> tuple[str | None, str]:
    """A cron text or preset written in the request, and the request without it."""
    for pattern in (_CRON, _PRESET):
        match = pattern.search(text)
        if match:
            found = match.group(1) if pattern is _CRON else match.group()
            before = _LEAD.sub("", text[: match.start()])
            return found, f"{before} , {text[match.end() :]}"
    return None, text


def read(text: str) -> tuple[Timing, list[Token]]:
    """The schedule a request asks for, and its other words, among them the zone: `in Berlin time`."""
    cron, rest = literal(text)
    tokens = tokenize(rest)
    everything = search(tokens, PHRASES, SLOTS)
    refuse_impossible(tokens, everything)
    tokens = zones.spelled_out(tokens, [item.end for item in everything if _tells_a_time(item)])
    found = [item for item in search(tokens, PHRASES, SLOTS) if Kept() not in _facts(item)]
    if any(isinstance(fact, Every | Times) and not _weak(fact) for item in found for fact in _facts(item)):
        found = [item for item in found if not all(_weak(fact) for fact in _facts(item))]
    if cron is not None:
        found = [item for item in found if not all(_weak(fact) for fact in _facts(item))]
        return Timing(schedule_interval=cron), without(tokens, found)
    return combine([fact for item in found for fact in _facts(item)]), without(tokens, found)


def _facts(item: Found) -> tuple[Fact, ...]:
    return item.fact if isinstance(item.fact, tuple) else (item.fact,)


def _tells_a_time(item: Found) -> bool:
    return any(isinstance(fact, At | Between) for fact in _facts(item))


def _weak(fact: Fact) -> bool:
    return isinstance(fact, Every) and fact.adjective
