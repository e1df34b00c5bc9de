"""Hooks for schemathesis: requests that it makes up meet things that exist, and graphs that end by themselves.

Loaded by the fuzzer's own process (`SCHEMATHESIS_HOOKS`). `HEDDLE_FUZZED_URL` is the server.
"""

from __future__ import annotations

import json
import os
from functools import cache
from typing import Any
from urllib.request import Request, urlopen
from uuid import UUID

import schemathesis

QUICK_GRAPHS = frozenset({"line", "echo", "ask"})
"""Graphs that end at once whatever their input says; the others can be told to sleep, to count or to wait."""

LONGEST_DELAY = 0.1


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Half of the well-formed ids become ids of things that exist; nothing that was made wrong is made right."""
    bodies = case.body if isinstance(case.body, list) else [case.body]
    for body in bodies:
        if isinstance(body, dict):
            _make_quick(body)
    ids = case.path_parameters
    if not isinstance(ids, dict):
        return
    if case.path.endswith("/cancel") and _is_chosen(ids.get("run_id")) and _is_uuid(ids["thread_id"]):
        ids |= _make_waiting_run()
        return
    owned = case.method == "DELETE"
    if "run_id" in ids and _is_chosen(ids["run_id"]):
        run = _make_run() if owned else _run()
        if "thread_id" in ids and _is_uuid(ids["thread_id"]):
            ids["thread_id"] = run["thread_id"]
            ids["run_id"] = run["run_id"]
        elif "thread_id" not in ids:
            ids["run_id"] = run["run_id"]
    elif "thread_id" in ids and "run_id" not in ids and _is_chosen(ids["thread_id"]):
        ids["thread_id"] = _make_run()["thread_id"] if owned else _run()["thread_id"]
    if "assistant_id" in ids and _is_chosen(ids["assistant_id"]):
        ids["assistant_id"] = _make_assistant() if owned else _assistant()


def _make_quick(body: dict[str, Any]) -> None:
    if "assistant_id" in body:
        body.setdefault("input", {"log": ["fuzzed"]})
    if isinstance(body.get("assistant_id"), str) and body["assistant_id"] not in QUICK_GRAPHS and body["assistant_id"]:
        body["assistant_id"] = "line"
    delay = body.get("after_seconds")
    if isinstance(delay, int | float) and not isinstance(delay, bool) and LONGEST_DELAY < delay < 10**9:
        body["after_seconds"] = LONGEST_DELAY


def _is_uuid(given: object) -> bool:
    try:
        return isinstance(given, str) and bool(UUID(given))
    except ValueError:
        return False


def _is_chosen(given: object) -> bool:
    return isinstance(given, str) and _is_uuid(given) and UUID(given).int % 4 != 0


@cache
def _run() -> dict[str, str]:
    return _make_run()


@cache
def _assistant() -> str:
    return _make_assistant()


def _make_run() -> dict[str, str]:
    """A finished run on a thread of its own."""
    thread = _post("/threads", {})
    run: dict[str, str] = _post(f"/threads/{thread['thread_id']}/runs", {"assistant_id": "line", "input": {"log": []}})
    with urlopen(f"{_url()}/threads/{run['thread_id']}/runs/{run['run_id']}/join", timeout=30) as answer:
        answer.read()
    return run


def _make_waiting_run() -> dict[str, str]:
    """The ids of a run that can be cancelled: it is due in an hour."""
    run = _make_run()
    waiting = _post(f"/threads/{run['thread_id']}/runs", {"assistant_id": "line", "after_seconds": 3600})
    return {"thread_id": waiting["thread_id"], "run_id": waiting["run_id"]}


def _make_assistant() -> str:
    return str(_post("/assistants", {"graph_id": "line"})["assistant_id"])


def _post(path: str, body: Any) -> Any:
    request = Request(f"{_url()}{path}", json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _url() -> str:
    return os.environ["HEDDLE_FUZZED_URL"]
