"""When: the phrases that say how often and at what time, and the schedule they add up to."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphs.dag_author import schedule
from graphs.dag_author.problems import Code, Refused
from graphs.dag_author.rules.clock import SLOTS, Clock
from graphs.dag_author.rules.patterns import Found, Values, phrase, search, without
from graphs.dag_author.rules.tokens import Token, tokenize


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    number: int
    unit: str  # minute, hour, day, week, month, quarter, year
    adjective: bool = False  # "daily": gives way to an "every …", and may belong to a thing ("daily users")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """So many times within a day or an hour."""

    number: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    clocks: tuple[Clock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usually:
    """A part of the day: counts when no clock time is given."""

    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Words that look like a schedule and are none: revenue for each month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class On:
    weekdays: tuple[int, ...] = ()
    days: tuple[int, ...] = ()
    month: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PastHour:
    minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manual:
    """Runs only when somebody triggers it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impossible:
    """Said clearly, and no cron text can say it."""

    what: str
    instead: str


Fact = Every | Times | At | Usually | Kept | On | Between | PastHour | Manual | Impossible


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """A schedule as the fields of a spec; all absent for a DAG that is triggered by hand."""

    schedule_interval: str | None = None
    interval_minutes: int | None = None
    start_clock: Clock | None = None
    said: bool = True  # whether the text said anything about time

    @property
    def period(self) -> str:
        """How much data one run stands for: hour, day, week, month, or the empty text for all of it."""
        return _period(self)


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
    """The schedule a request asks for, and its other words."""
    cron, rest = literal(text)
    tokens = tokenize(rest)
    found = [item for item in search(tokens, PHRASES, SLOTS) if Kept() not in _facts(item)]
    if any(isinstance(fact, Every | Times) and not _weak(fact) for item in found for fact in _facts(item)):
        found = [item for item in found if not all(_weak(fact) for fact in _facts(item))]
    if cron is not None:
        found = [item for item in found if not all(_weak(fact) for fact in _facts(item))]
        return Timing(schedule_interval=cron), without(tokens, found)
    return combine([fact for item in found for fact in _facts(item)]), without(tokens, found)


def _facts(item: Found) -> tuple[Fact, ...]:
    return item.fact if isinstance(item.fact, tuple) else (item.fact,)


def _weak(fact: Fact) -> bool:
    return isinstance(fact, Every) and fact.adjective


def combine(facts: Sequence[Fact]) -> Timing:
    """The schedule that all facts together describe; Refused when cron has no way to say it."""
    for fact in facts:
        if isinstance(fact, Impossible):
            raise _refused(fact.what, fact.instead)
    if any(isinstance(fact, Manual) for fact in facts):
        return Timing()
    if not facts:
        return Timing(said=False)
    every = next((fact for fact in facts if isinstance(fact, Every | Times)), None)
    clocks = sorted({clock for fact in facts if isinstance(fact, At) for clock in fact.clocks})
    if not clocks:
        clocks = [fact.clock for fact in facts if isinstance(fact, Usually)][:1]
    on = _merged([fact for fact in facts if isinstance(fact, On)])
    hours = next((fact for fact in facts if isinstance(fact, Between)), None)
    past = next((fact.minute for fact in facts if isinstance(fact, PastHour)), None)
    if isinstance(every, Times):
        return _times(every, clocks, on)
    if past is not None and not clocks:
        return _cron(str(past), _hours(hours), on)
    if every is not None and every.unit in ("minute", "hour") and not clocks:
        return _often(every, on, hours)
    return _by_day(every, clocks, on)


def _merged(found: Sequence[On]) -> On:
    return On(
        weekdays=tuple(sorted({day for fact in found for day in fact.weekdays})),
        days=tuple(sorted({day for fact in found for day in fact.days})),
        month=next((fact.month for fact in found if fact.month), None),
    )


def _often(every: Every, on: On, hours: Between | None) -> Timing:
    number = every.number
    if every.unit == "minute":
        if number < 60 and 60 % number == 0:
            return _cron("*" if number == 1 else f"*/{number}", _hours(hours), on)
        if number % 60 == 0:
            return _often(Every(number=number // 60, unit="hour"), on, hours)
        return _interval(number, on, hours)
    if 24 % number == 0 and number < 24:
        if number == 1 and on == On() and hours is None:
            return Timing(schedule_interval="@hourly")
        step = f"/{number}" if number > 1 else ""
        return _cron("0", f"{_hours(hours)}{step}", on)
    if number == 24:
        return _by_day(Every(number=1, unit="day"), [], on)
    return _interval(number * 60, on, hours)


def _interval(minutes: int, on: On, hours: Between | None) -> Timing:
    if on != On() or hours is not None:
        raise _refused(
            "an interval that does not fit into an hour or a day, on certain days or hours",
            "15 or 30 minutes",
        )
    return Timing(interval_minutes=minutes)


def _times(every: Times, clocks: Sequence[Clock], on: On) -> Timing:
    if every.unit == "hour" and 60 % max(every.number, 1) == 0:
        return _cron(f"*/{60 // every.number}" if every.number > 1 else "0", "*", on)
    if every.unit == "day":
        if clocks:
            return _by_day(Every(number=1, unit="day"), clocks, on)
        if every.number and 24 % every.number == 0:
            step = 24 // every.number
            return _cron("0", ",".join(str(hour) for hour in range(0, 24, step)), on)
    if clocks or on.weekdays or on.days:
        return _by_day(None, clocks, on)
    raise _refused(f"{every.number} times a {every.unit} without saying when", "the days and times")


_PRESET_OF = {
    "day": "@daily",
    "week": "@weekly",
    "month": "@monthly",
    "quarter": "@quarterly",
    "year": "@yearly",
}
# Day of month, month, day of week on which a period starts.
_DAYS_OF = {
    "day": ("*", "*", "*"),
    "week": ("*", "*", "0"),
    "month": ("1", "*", "*"),
    "quarter": ("1", "*/3", "*"),
    "year": ("1", "1", "*"),
}


def _by_day(every: Every | None, clocks: Sequence[Clock], on: On) -> Timing:
    unit, number = (every.unit, every.number) if every else ("day", 1)
    if unit in ("minute", "hour"):
        unit, number = "day", 1  # "every hour at 6am" can only mean 6am
    if number > 1:
        return _every_few(unit, number, clocks, on)
    if not clocks and on == On():
        return Timing(schedule_interval=_PRESET_OF[unit])
    minute, hour = _clock_fields(clocks)
    fields = {
        "week": ("*", "*", "0"),
        "month": ("1", "*", "*"),
        "quarter": ("1", "*/3", "*"),
        "year": ("1", "1", "*"),
    }
    day, month, weekday = fields.get(unit, ("*", "*", "*"))
    if on.weekdays:
        day, weekday = ("*" if unit in ("day", "week") else day), _listed(on.weekdays)
        if day != "*":
            raise _refused("a weekday within a month", "a day of the month, or a day of the week")
    if on.days:
        if on.weekdays:
            raise _refused("days of the month and of the week together", "one of them")
        day, weekday = _listed(on.days), "*"
    if on.month:
        month = str(on.month)
    return Timing(schedule_interval=f"{minute} {hour} {day} {month} {weekday}")


def _every_few(unit: str, number: int, clocks: Sequence[Clock], on: On) -> Timing:
    if unit in ("month", "quarter"):
        months = number * (3 if unit == "quarter" else 1)
        if 12 % months == 0:
            minute, hour = _clock_fields(clocks)
            return Timing(
                schedule_interval=f"{minute} {hour} {_listed(on.days) if on.days else 1} */{months} *"
            )
    elif unit in ("day", "week") and on == On() and len(clocks) <= 1:
        days = number * (7 if unit == "week" else 1)
        return Timing(interval_minutes=days * 1440, start_clock=clocks[0] if clocks else None)
    raise _refused(f"every {number} {unit}s on these days or times", f"every {unit}")


def _clock_fields(clocks: Sequence[Clock]) -> tuple[str, str]:
    minutes = sorted({clock.minute for clock in clocks}) or [0]
    hours = sorted({clock.hour for clock in clocks}) or [0]
    if len(minutes) > 1 and len(hours) > 1:
        raise _refused("several times with different minutes", "times with the same minutes, or two DAGs")
    return _listed(minutes), ",".join(str(hour) for hour in hours)


def _cron(minute: str, hour: str, on: On) -> Timing:
    if hour.startswith("/"):
        hour = f"*{hour}"
    day = _listed(on.days) if on.days else "*"
    weekday = _listed(on.weekdays) if on.weekdays else "*"
    return Timing(schedule_interval=f"{minute} {hour} {day} {on.month or '*'} {weekday}")


def _hours(hours: Between | None) -> str:
    return f"{hours.first}-{hours.last}" if hours else "*"


def _listed(numbers: Sequence[int]) -> str:
    numbers = sorted(numbers)
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ",".join(str(number) for number in numbers)


def _period(timing: Timing) -> str:
    if timing.interval_minutes is not None:
        return "day" if timing.interval_minutes == 1440 else ""
    if timing.schedule_interval is None:
        return ""
    preset = {"@hourly": "hour", "@daily": "day", "@midnight": "day", "@weekly": "week", "@monthly": "month"}
    if timing.schedule_interval in preset:
        return preset[timing.schedule_interval]
    try:
        cron = schedule.parse(timing.schedule_interval).cron
    except Refused:
        return ""  # an invalid cron text is reported when the spec is checked
    if cron is None:
        return ""
    minute, hour, day, month, weekday = cron.split()
    if minute.isdecimal() and hour == day == month == weekday == "*":
        return "hour"
    single = minute.isdecimal() and hour.isdecimal() and month == "*"
    if single and day == "*":
        return "day" if weekday == "*" else "week" if weekday.isdecimal() else ""
    return "month" if single and day.isdecimal() and weekday == "*" else ""


def _refused(what: str, instead: str) -> Refused:
    return Refused.because(
        Code.SCHEDULE_INVALID, "schedule", f"a cron schedule cannot say: {what}", allowed=f"ask for {instead}"
    )
