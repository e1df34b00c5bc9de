"""The small rules, each by its table: commands, time, zones, clauses, Python and template text."""

from __future__ import annotations

import ast
from datetime import UTC, datetime
from typing import Any

import jinja2
import pytest

from graphs.dag_author import commands, python_text, schedule, structure, template_text
from graphs.dag_author.problems import Code, Refused
from graphs.dag_author.rules import clauses, steps, timing, zones
from graphs.dag_author.rules.lexicon import Action
from graphs.dag_author.rules.tokens import Kind, spell, tokenize


@pytest.mark.parametrize(
    ("text", "action", "rest"),
    [
        ("/agent create run x", "create", "run x"),
        ("  /AGENT  Create\nrun x ", "create", "run x"),
        ("/agent list", "list", ""),
        ("/agent", "help", ""),
        ("/agent destroy it", "unknown", "destroy"),
        ("/agents list", "chat", "/agents list"),
        ("please /agent list", "chat", "please /agent list"),
    ],
)
def test_a_message_is_a_command_or_chat(text: str, action: str, rest: str) -> None:
    assert commands.parse(text) == commands.Command(action=action, text=rest)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("run a.py", [Kind.WORD, Kind.PLACE]),
        ("at 6am, 7:30 pm and 18h", [Kind.WORD, Kind.CLOCK, Kind.MARK, Kind.CLOCK, Kind.WORD, Kind.CLOCK]),
        ("mail a.b@c.io", [Kind.WORD, Kind.EMAIL]),
        ("get https://x.io/a?b=1, s3://b/k.", [Kind.WORD, Kind.PLACE, Kind.MARK, Kind.PLACE, Kind.MARK]),
        ('run `make all` "now"', [Kind.WORD, Kind.QUOTED, Kind.QUOTED]),
        ("today's orders -> Europe/Paris", [Kind.WORD, Kind.WORD, Kind.MARK, Kind.WORD]),
    ],
)
def test_text_is_cut_into_tokens(text: str, kinds: list[Kind]) -> None:
    assert [token.kind for token in tokenize(text)] == kinds


@pytest.mark.parametrize(
    ("text", "cron", "rest"),
    [
        ("daily x", "@daily", "x"),
        ("hourly x", "@hourly", "x"),
        ("weekly x", "@weekly", "x"),
        ("monthly x at 6am", "0 6 1 * *", "x"),
        ("quarterly at 5 in the morning x", "0 5 1 */3 *", "x"),
        ("every minute x", "* * * * *", "x"),
        ("every 2 hours x", "0 */2 * * *", "x"),
        ("every half hour x", "*/30 * * * *", "x"),
        ("x every hour at minute 20", "20 * * * *", "x"),
        ("x every 2 hours between 9 and 17", "0 9-17/2 * * *", "x"),
        ("three times a day x", "0 0,8,16 * * *", "x"),
        ("every mon, wed and fri at 5:15pm x", "15 17 * * 1,3,5", "x"),
        ("monday to friday at 18:00 x", "0 18 * * 1-5", "x"),
        ("on weekends at noon x", "0 12 * * 0,6", "x"),
        ("on the 1st and 15th of each month at noon x", "0 12 1,15 * *", "x"),
        ("every year on march 3rd x", "0 0 3 3 *", "x"),
        ("every morning at 7 x", "0 7 * * *", "x"),
        ("every weekday morning x", "0 6 * * 1-5", "x"),
        ("every day at 6am and 6pm x", "0 6,18 * * *", "x"),
        ("schedule: 15 3 * * * then go", "15 3 * * *", "then go"),
        ("@hourly x", "@hourly", "x"),
        ("count daily active users every hour", "@hourly", "count daily active users"),
        ("sum revenue for each month every day at 5", "0 5 * * *", "sum revenue for each month"),
        ("x", None, "x"),
    ],
)
def test_time_is_read_and_taken_out(text: str, cron: str | None, rest: str) -> None:
    found, left = timing.read(text)
    assert found.schedule_interval == cron
    assert spell(left) == rest


@pytest.mark.parametrize(
    ("text", "minutes"), [("every 90 minutes x", 90), ("every other day x", 2880), ("biweekly x", 20160)]
)
def test_what_no_cron_can_say_is_an_interval(text: str, minutes: int) -> None:
    assert timing.read(text)[0].interval_minutes == minutes


@pytest.mark.parametrize(
    ("text", "zone", "rest"),
    [
        ("x in Paris time", "Europe/Paris", "x"),
        ("x Europe/Berlin", "Europe/Berlin", "x"),
        ("x in the America/Sao_Paulo timezone", "America/Sao_Paulo", "x"),
        ("x UTC", "UTC", "x"),
        ("x in new york time", "America/New_York", "x"),
        ("x pacific time", "America/Los_Angeles", "x"),
        ("x in real time", None, "x in real time"),
        ("read paris from postgres", None, "read paris from postgres"),
    ],
)
def test_zones_are_read_and_taken_out(text: str, zone: str | None, rest: str) -> None:
    found, left = zones.read(tokenize(text))
    assert (found, spell(left)) == (zone, rest)


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("extract a from x, sum b and email c", [["extract a from x", "sum b", "email c"]]),
        ("extract a from x then sum b", [["extract a from x"], ["sum b"]]),
        ("extract a and b from x. email it", [["extract a and b from x"], ["email it"]]),
        ("pull a from x and b from y", [["pull a from x", "b from y"]]),
        ("email c after summing b", [["summing b"], ["email c"]]),
        ("run a.sh, after both are done run b.sh", [["run a.sh"], ["run b.sh"]]),
        ("a dag that runs x.sh -> email the team", [["x.sh"], ["email the team"]]),
    ],
)
def test_requests_are_cut_into_clauses(text: str, segments: list[list[str]]) -> None:
    assert [
        [spell(clause.tokens) for clause in segment.clauses] for segment in clauses.split(tokenize(text))
    ] == segments


@pytest.mark.parametrize(
    ("text", "action", "things"),
    [
        ("extracting new orders from the postgres database", Action.EXTRACT, ("orders",)),
        ("aggregates revenue per country", Action.AGGREGATE, ("revenue",)),
        ("copies users from mysql to postgres", Action.TRANSFER, ("users",)),
        ("load it into the warehouse", Action.LOAD, ("it",)),
        ("emails a report", Action.NOTIFY, ("report",)),
        ("frobnicates the widgets", Action.OTHER, ("widgets",)),
        ("a backup of the database", Action.OTHER, ("backup",)),
    ],
)
def test_a_clause_is_understood(text: str, action: Action, things: tuple[str, ...]) -> None:
    step = steps.read(clauses.Clause(tokens=tuple(tokenize(text))))
    assert step is not None
    assert (step.action, step.things) == (action, things)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 6 * * *", "every day at 06:00 (UTC)"),
        ("@daily", "every day at 00:00 (UTC)"),
        ("30 7 * * 1-5", "every weekday at 07:30 (UTC)"),
        ("0 9 * * mon,thu", "every Monday and Thursday at 09:00 (UTC)"),
        ("*/15 * * * *", "every 15 minutes (UTC)"),
        ("0 3 1 * *", "on day 1 of every month at 03:00 (UTC)"),
        ("@quarterly", "on day 1 of every 3 months at 00:00 (UTC)"),
        ("5 4 1-7 * 3", "by cron `5 4 1-7 * 3` (UTC)"),
        ("@once", "once"),
        (None, "only when triggered"),
    ],
)
def test_schedules_are_said_in_words(cron: str | None, words: str) -> None:
    assert schedule.in_words(schedule.parse(cron), "UTC") == words


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("@Daily", "@daily"),
        ("@annually", "@yearly"),
        ("@midnight", "@daily"),
        (" 0  6 * * MON ", "0 6 * * mon"),
    ],
)
def test_spellings_of_a_schedule_become_one(given: str, normal: str) -> None:
    assert schedule.parse(given).text == normal


def test_the_next_runs_follow_the_wall_clock_through_a_change_to_summer_time() -> None:
    runs = schedule.next_runs(schedule.parse("30 2 * * *"), "Europe/Paris", datetime(2026, 3, 28, 0, tzinfo=UTC))
    assert [run.isoformat() for run in runs] == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-29T03:30:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


CODES = [
    "return 1",
    "import os\nprint(os.getcwd())\nreturn ds",
    "x = '''a\n  b'''\nreturn x",
    "if True:\n\tprint('tab')\n\treturn 1",
    "f'''{1}\n two'''\nreturn 2",
    "for i in range(3):\r\n    print(i)",
    "# only a comment",
    "\ufeffreturn 1",
    "```python\nreturn 1\n```",
    "    return 1",
    "x = 1; y = '\\\n z'",
    "sql = \"\"\"select '''x''' from t\nwhere a = 1\"\"\"\nreturn sql",
]


@pytest.mark.parametrize("code", CODES)
def test_wrapped_code_says_what_it_said(code: str) -> None:
    source = python_text.wrap(code, task_id="a", path="p").source
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.FunctionDef)
    tidy = python_text.tidy(code, "p")
    wanted = [ast.dump(node) for node in ast.parse(tidy).body]
    assert [ast.dump(node) for node in body.body][-len(wanted) or len(body.body) :] == wanted or not wanted


@pytest.mark.parametrize(
    ("code", "last"),
    [
        ("def a(**context):\n    return 1", "return a(**context)"),
        ("def main():\n    return 1\ndef helper():\n    return 2", "return main()"),
        ("import os\nX = 1\ndef only(ds):\n    return ds", "return only(ds=context['ds'])"),
        ("def only(n=1):\n    return n", "return only()"),
    ],
)
def test_a_function_nobody_calls_is_called(code: str, last: str) -> None:
    assert python_text.wrap(code, task_id="a", path="p").source.rstrip().endswith(last)


def test_a_syntax_error_names_the_line_of_the_user() -> None:
    with pytest.raises(Refused) as refusal:
        python_text.wrap("x = 1\nreturn ds\ny = await z\n", task_id="a", path="tasks[0].python_code")
    assert refusal.value.problems[0].code is Code.CODE_SYNTAX
    assert refusal.value.problems[0].path == "tasks[0].python_code, line 3"


@pytest.mark.parametrize(
    ("code", "warning"),
    [
        ("return execution_date", "Airflow 3 no longer has"),
        ("import datetime\nreturn datetime.datetime.now()", "current time"),
        ("password = 'hunter22'\nreturn 1", "password"),
        ("yield 1", "yields"),
        ("", "no code"),
    ],
)
def test_code_that_loads_but_misleads_gets_a_warning(code: str, warning: str) -> None:
    assert warning in " ".join(python_text.wrap(code, task_id="a", path="p").warnings)


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("echo {{ ds }}", False),
        ("echo {{ params.x }} {% if ds %}a{% endif %}", False),
        ("echo plain", False),
        ("echo ${#arr[@]}", True),
        ("docker ps --format '{{.Names}}'", True),
        ("echo {{ nobody }}", True),
        ("a {% endraw %} {{ x", True),
        ("{% include '/etc/passwd' %}", True),
    ],
)
def test_only_what_airflow_can_render_stays_a_template(text: str, literal: bool) -> None:
    prepared = template_text.prepare(text)
    assert prepared.literal is literal
    rendered = jinja2.Environment().from_string(prepared.text)
    if literal:
        assert rendered.render() == text
    else:
        assert prepared.text == text


@pytest.mark.parametrize("text", ["run.sh", "x.bash", "a.sql", "b.json"])
def test_a_text_that_ends_like_a_file_is_not_read_as_one(text: str) -> None:
    assert template_text.prepare(text).text == text + " "


@pytest.mark.parametrize(
    ("upstream", "cycle"),
    [
        ({"a": [], "b": ["a"]}, set()),
        ({"a": ["c"], "b": ["a"], "c": ["b"]}, {"a", "b", "c"}),
        ({"x": ["b"], "a": ["b"], "b": ["a"], "y": ["x"]}, {"a", "b"}),
    ],
)
def test_a_cycle_is_found_and_nothing_behind_it(upstream: dict[str, Any], cycle: set[str]) -> None:
    assert set(structure.find_cycle(upstream)) == cycle
