"""Log lines: one per record, with its fields, for people or for machines."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from heddle_server import logs

log = logging.getLogger("heddle_core.engine.worker")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def written(level: str = "INFO", *, json: bool = False) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, json=json, stream=stream)
    return stream


def test_a_record_is_one_json_object_with_its_fields_and_bound_ids() -> None:
    stream = written(json=True)
    structlog.contextvars.bind_contextvars(request_id="r1", run_id="u1")
    log.info("run_claimed", extra={"attempt": 2})
    (line,) = stream.getvalue().splitlines()
    said = json.loads(line)
    stamp = said.pop("timestamp")
    assert said == {
        "event": "run_claimed",
        "level": "info",
        "logger": "heddle_core.engine.worker",
        "attempt": 2,
        "request_id": "r1",
        "run_id": "u1",
    }
    assert stamp.endswith("Z")


def test_a_readable_line_has_the_event_the_fields_and_no_colour_outside_a_terminal() -> None:
    stream = written()
    structlog.contextvars.bind_contextvars(run_id="u1")
    log.info("run_claimed", extra={"attempt": 2})
    (line,) = stream.getvalue().splitlines()
    assert "run_claimed" in line
    assert "attempt=2" in line
    assert "run_id=u1" in line
    assert "\x1b" not in line


@pytest.mark.parametrize("as_json", [False, True])
def test_a_value_with_a_line_end_does_not_make_a_second_line(as_json: bool) -> None:
    stream = written(json=as_json)
    log.info("odd", extra={"value": "a\nevent=forged", "other": "\ud800"})
    log.info("first\nsecond")
    assert len(stream.getvalue().splitlines()) == 2


def test_an_exception_is_told_with_its_traceback() -> None:
    stream = written(json=True)
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("graph_failed")
    said = json.loads(stream.getvalue())
    assert "ValueError: broken" in said["exception"]


def test_uvicorn_speaks_through_the_same_lines_once() -> None:
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.addHandler(logging.StreamHandler(io.StringIO()))
    stream = written(json=True)
    uvicorn.info("Started server process [%d]", 7, extra={"color_message": "x"})
    uvicorn.error("Exception in ASGI application %s", "here", extra={"color_message": "x"})
    (line,) = stream.getvalue().splitlines()
    said = json.loads(line)
    assert said["event"] == "Exception in ASGI application here"
    assert "color_message" not in said


def test_the_level_holds_and_debug_shows_all() -> None:
    stream = written("WARNING")
    log.info("quiet")
    assert stream.getvalue() == ""
    stream = written("DEBUG")
    logging.getLogger("httpx").info("request")
    assert "request" in stream.getvalue()


def test_configuring_again_replaces_the_first() -> None:
    first = written()
    second = written()
    log.info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


@pytest.mark.filterwarnings("default:careful")
def test_structlog_loggers_and_warnings_come_out_too() -> None:
    stream = written(json=True)
    structlog.get_logger("guest").warning("hello", answer=42)
    warnings.warn("careful", stacklevel=1)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["answer"], first["logger"]) == ("hello", 42, "guest")
    assert "careful" in second["event"]
