"""What the write-behind decides without a database: when to write, and whether to try again."""

from __future__ import annotations

import asyncpg
import pytest

from heddle_server.storage.flusher import is_transient
from heddle_server.storage.rows import Buffer


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (asyncpg.DeadlockDetectedError("x"), True),
        (asyncpg.DiskFullError("x"), True),
        (asyncpg.AdminShutdownError("x"), True),
        (asyncpg.QueryCanceledError("x"), True),
        (asyncpg.ConnectionDoesNotExistError("x"), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (asyncpg.DataError("x"), False),
        (asyncpg.CharacterNotInRepertoireError("x"), False),
        (asyncpg.UndefinedFunctionError("x"), False),
        (asyncpg.NotNullViolationError("x"), False),
    ],
)
def test_errors_of_the_rows_are_told_from_errors_of_the_database(error: BaseException, transient: bool) -> None:
    assert is_transient(error) is transient


@pytest.mark.parametrize(
    ("steps", "due"),
    [
        ([0.0], 0.020),
        ([0.0, 0.005], 0.020),
        ([0.0, 0.015], 0.025),
        ([0.0, 0.015, 0.024], 0.034),
        ([0.0, 0.019, 0.028, 0.037, 0.046, 0.055], 0.060),
    ],
)
def test_steps_are_due_when_they_pause_or_have_waited_long(steps: list[float], due: float) -> None:
    buffer = Buffer()
    for moment in steps:
        buffer.note_step(moment)
    assert buffer.due(0.020) == pytest.approx(due)
    assert Buffer().due(0.020) is None
