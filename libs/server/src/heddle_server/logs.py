"""How log records become lines: readable ones for people, JSON for machines.

Code logs through the standard library: `log.info("run_claimed", extra={"attempt": 1})`. Ids that belong to a
request or a run are bound once with `structlog.contextvars.bind_contextvars` and are then in every record of
that task, whoever logs it, libraries included.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping, Sequence
from json import dumps
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import Processor

__all__ = ["configure"]

# Chatter of libraries below what a person on call wants; DEBUG shows all of it.
_QUIET = ("uvicorn.error", "httpx", "httpcore", "watchfiles", "alembic", "asyncio", "openai", "urllib3")
_NOT_FIELDS = ("color_message", "message", "asctime")  # copies of the event that formatters leave in the record


def configure(level: str = "INFO", *, json: bool = False, stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream` (standard error). Calling it again replaces the first call.

    Colour is used only on a terminal. Loggers that servers and libraries set up for themselves are emptied,
    so that no line comes twice or in another form.
    """
    output = stream or sys.stderr
    handler = _Handler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _drop_duplicates,
                *(_json_line() if json else _readable_line(output)),
            ],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "DEBUG" else logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, told apart from handlers that a test runner or an embedding program adds."""


def _shared() -> Sequence[Processor]:
    return (
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    )


def _readable_line(output: TextIO) -> Sequence[Processor]:
    return (
        _short_time,
        structlog.dev.ConsoleRenderer(
            colors=output.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
        ),
    )


def _json_line() -> Sequence[Processor]:
    return (
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_dumps),
    )


def _dumps(fields: Any, **_: Any) -> str:
    try:
        return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:  # a lone surrogate or a huge number: the line still comes out
        return dumps(fields, default=str)


def _drop_duplicates(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in _NOT_FIELDS:
        fields.pop(name, None)
    return fields


def _short_time(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    stamp = fields.get("timestamp")
    if isinstance(stamp, str):
        fields["timestamp"] = stamp[11:23]
    event = fields.get("event")
    if isinstance(event, str) and "\n" in event:
        fields["event"] = " ".join(event.split())
    return fields
