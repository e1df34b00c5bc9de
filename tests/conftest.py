"""Plugins of all tests, and plain tracebacks in what is logged: structlog's own ones take a second each."""

from __future__ import annotations

import pytest
import structlog

pytest_plugins = ["tests.support.postgres_server"]


@pytest.fixture(autouse=True)
def plain_tracebacks() -> None:
    if not structlog.is_configured():
        structlog.configure(
            [
                structlog.stdlib.add_log_level,
                structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
            ]
        )
