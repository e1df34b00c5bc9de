"""When a DAG runs: which schedules are allowed, when they fire next, and how to say so in words.

Airflow takes more than it should: seconds at the end, dates that never come, letters of other dialects.
So the five fields are checked here first, and only then asked for their next date.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

from graphs.dag_author.problems import Code, Refused

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
_OTHER_SPELLINGS = {"@midnight": "@daily", "@annually": "@yearly"}
HORIZON_YEARS = 5

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY_NAMES = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_ALLOWED = f"{', '.join([*PRESETS, '@once', '@continuous'])}, null or five cron fields such as 0 6 * * *"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    Field(name="minute", low=0, high=59),
    Field(name="hour", low=0, high=23),
    Field(name="day of month", low=1, high=31),
    Field(name="month", low=1, high=12, names=_MONTHS),
    Field(name="day of week", low=0, high=7, names=_DAYS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A checked schedule: a preset or cron text, an interval, or nothing (runs only when triggered)."""

    text: str | None = None
    interval: timedelta | None = None

    @property
    def cron(self) -> str | None:
        """The five fields it stands for, when it has any."""
        return PRESETS.get(self.text, None if self.text.startswith("@") else self.text) if self.text else None

    @property
    def stored(self) -> str | None:
        """The form kept in the table of DAGs."""
        if self.interval is not None:
            return f"every {int(self.interval.total_seconds()) // 60} minutes"
        return self.text


def parse(text: str | None, interval_minutes: int | None = None) -> Schedule:
    """The schedule in normal form; Refused when Airflow would refuse it or understand something else."""
    if interval_minutes is not None:
        return Schedule(interval=timedelta(minutes=interval_minutes))
    if text is None:
        return Schedule()
    if text.strip().startswith("@"):
        preset = _OTHER_SPELLINGS.get(text.strip().lower(), text.strip().lower())
        if preset in PRESETS or preset in ("@once", "@continuous"):
            return Schedule(text=preset)
        raise _invalid("is not a preset Airflow knows", text)
    fields = text.split()
    if len(fields) != 5 or len(text) > 200:
        raise _invalid(f"needs exactly five fields, not {len(fields)}", text)
    for field, value in zip(_FIELDS, fields, strict=True):
        _check_field(field, value, text)
    checked = Schedule(text=" ".join(fields).lower())
    if not _wall_times(checked, datetime(2024, 1, 1), 1):  # noqa: DTZ001 - a wall clock has no zone
        raise Refused.because(
            Code.SCHEDULE_NEVER_FIRES,
            "schedule_interval",
            f"has no date within {HORIZON_YEARS} years",
            got=text,
        )
    return checked


def of_value(value: object) -> Schedule:
    """The schedule a DAG file holds; Refused when it is none this agent writes."""
    if isinstance(value, timedelta):
        return Schedule(interval=value)
    return parse(value if value is None else str(value))


def localised(wall: datetime, zone: str) -> datetime:
    """A time of the wall clock of a zone as a moment."""
    return _at(wall, ZoneInfo(zone))


def next_runs(schedule: Schedule, zone: str, after: datetime, count: int = 3) -> list[datetime]:
    """The next times it fires, in its zone; none for a DAG that waits to be triggered.

    Cron follows the wall clock: a time that the change to summer time skips is shown as the clock then reads.
    """
    where = ZoneInfo(zone)
    local = after.astimezone(where)
    if schedule.interval is not None:
        return [local + schedule.interval * (n + 1) for n in range(count)]
    found = []
    for wall in _wall_times(schedule, local.replace(tzinfo=None), count + 1):
        moment = _at(wall, where)
        if moment > after:
            found.append(moment)
    return found[:count]


def in_words(schedule: Schedule, zone: str) -> str:
    """The schedule as a person would say it."""
    if schedule.interval is not None:
        return f"every {_span(schedule.interval)}"
    if schedule.text is None:
        return "only when triggered"
    if schedule.text == "@once":
        return "once"
    if schedule.text == "@continuous":
        return "again as soon as a run has ended"
    minute, hour, day, month, weekday = (schedule.cron or "").split()
    spoken = _spoken(minute, hour, day, month, weekday)
    return f"{spoken} ({zone})" if spoken else f"by cron `{schedule.cron}` ({zone})"


def _spoken(minute: str, hour: str, day: str, month: str, weekday: str) -> str | None:
    anyday = day == month == weekday == "*"
    if anyday and hour == "*":
        if minute == "*":
            return "every minute"
        if step := re.fullmatch(r"\*/(\d+)", minute):
            return f"every {step.group(1)} minutes"
        return f"every hour at minute {minute}" if minute.isdecimal() else None
    if not minute.isdecimal():
        return None
    if anyday and (step := re.fullmatch(r"\*/(\d+)", hour)):
        return f"every {step.group(1)} hours at minute {minute}"
    if not re.fullmatch(r"\d+(,\d+)*", hour):
        return None
    times = " and ".join(f"{int(h):02}:{int(minute):02}" for h in hour.split(","))
    if anyday:
        return f"every day at {times}"
    if day == month == "*":
        return f"every {_weekdays(weekday)} at {times}" if _weekdays(weekday) else None
    if weekday == "*" and day.isdecimal():
        if month == "*":
            return f"on day {day} of every month at {times}"
        if step := re.fullmatch(r"\*/(\d+)", month):
            return f"on day {day} of every {step.group(1)} months at {times}"
        if month.isdecimal():
            return f"every year on {_MONTHS[int(month) - 1].capitalize()} {day} at {times}"
    return None


def _weekdays(text: str) -> str | None:
    if text in ("1-5", "mon-fri"):
        return "weekday"
    if text in ("0,6", "6,0", "sat,sun", "6-7"):
        return "Saturday and Sunday"
    parts = [str(_DAYS.index(part)) if part in _DAYS else part for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        return None
    return " and ".join(_DAY_NAMES[int(part) % 7] for part in parts)


def _span(interval: timedelta) -> str:
    minutes = int(interval.total_seconds()) // 60
    for size, word in ((10_080, "weeks"), (1440, "days"), (60, "hours")):
        if minutes % size == 0:
            return f"{minutes // size} {word}" if minutes != size else word.removesuffix("s")
    return f"{minutes} minutes" if minutes != 1 else "minute"


def _wall_times(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    if schedule.cron is None:
        return []
    try:
        times = croniter(schedule.cron, after, ret_type=datetime, max_years_between_matches=HORIZON_YEARS)
        return [times.get_next() for _ in range(count)]
    except CroniterError:
        return []


def _at(wall: datetime, zone: tzinfo) -> datetime:
    moment = wall.replace(tzinfo=zone)
    return moment.astimezone(ZoneInfo("UTC")).astimezone(zone)


def _check_field(field: Field, value: str, text: str) -> None:
    for part in value.lower().split(","):
        body, slash, step = part.partition("/")
        if slash and not (step.isdecimal() and step.isascii() and 1 <= int(step[:4]) <= field.high):
            raise _invalid(f"has a step in {field.name} that is not a number from 1 to {field.high}", text)
        if body == "*":
            continue
        low, dash, high = body.partition("-")
        numbers = [_number(field, low, text)] + ([_number(field, high, text)] if dash else [])
        if dash and numbers[0] > numbers[1]:
            raise _invalid(f"has a range in {field.name} that ends before it starts", text)
        if slash and not dash:
            raise _invalid(f"has a step without a range in {field.name}", text)


def _number(field: Field, text: str, whole: str) -> int:
    if text in field.names:
        return field.names.index(text) + field.low
    if text.isdecimal() and text.isascii() and len(text) <= 2 and field.low <= int(text) <= field.high:
        return int(text)
    raise _invalid(f"has {text[:20]!r} in {field.name}: {field.low} to {field.high}", whole)


def _invalid(rule: str, got: str) -> Refused:
    return Refused.because(Code.SCHEDULE_INVALID, "schedule_interval", rule, got=got, allowed=_ALLOWED)
