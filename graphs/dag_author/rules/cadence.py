"""How often and at what time: single facts, and the one schedule they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphs.dag_author import schedule
from graphs.dag_author.problems import Code, Refused
from graphs.dag_author.rules.clock import Clock


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
            return Timing(schedule_interval=f"{minute} {hour} {_listed(on.days) if on.days else 1} */{months} *")
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
