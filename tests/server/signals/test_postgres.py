"""Signals over LISTEN and NOTIFY: who hears them, and what a listener learns when some were lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.ids import new_run_id
from heddle_core.ports.signals import Signal, SignalKind
from heddle_server.dsn import Dsn
from heddle_server.signals.postgres import PostgresSignals
from tests.support.postgres_server import execute

WAIT = 5.0


async def ring(database: Dsn, *payloads: str) -> None:
    connection = await asyncpg.connect(**database.asyncpg_kwargs())
    try:
        for payload in payloads:
            await connection.execute("SELECT pg_notify('heddle', $1)", payload)
    finally:
        await connection.close()


async def heard(listener: AsyncIterator[Signal]) -> Signal:
    async with asyncio.timeout(WAIT):
        return await anext(listener)


async def kill_listeners(database: Dsn) -> None:
    await execute(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'heddle signals' AND datname = current_database()",
    )


async def test_every_listener_hears_every_signal_from_its_call_on(empty_database: Dsn) -> None:
    run_id = new_run_id()
    async with PostgresSignals(empty_database.asyncpg_kwargs()) as signals:
        one, two = signals.listen(), signals.listen()
        await ring(empty_database, "run_ready", f"cancel {run_id}", f"run_ended {run_id}")
        for listener in (one, two):
            assert await heard(listener) == Signal(SignalKind.RUN_READY)
            assert await heard(listener) == Signal(SignalKind.CANCEL, run_id)
            assert await heard(listener) == Signal(SignalKind.RUN_ENDED, run_id)


async def test_what_is_not_a_signal_is_passed_over(empty_database: Dsn) -> None:
    async with PostgresSignals(empty_database.asyncpg_kwargs()) as signals:
        listener = signals.listen()
        await ring(empty_database, "", "nonsense", "cancel not-a-uuid", "run_ready")
        assert await heard(listener) == Signal(SignalKind.RUN_READY)


async def test_a_lost_connection_heals_and_says_wake(empty_database: Dsn) -> None:
    async with PostgresSignals(empty_database.asyncpg_kwargs()) as signals:
        listener = signals.listen()
        for _ in range(2):
            await kill_listeners(empty_database)
            assert await heard(listener) == Signal(SignalKind.WAKE)
            await ring(empty_database, "run_ready")
            assert await heard(listener) == Signal(SignalKind.RUN_READY)


async def test_a_listener_far_behind_is_told_to_look_for_itself(empty_database: Dsn) -> None:
    async with PostgresSignals(empty_database.asyncpg_kwargs()) as signals:
        slow, quick = signals.listen(), signals.listen()
        await ring(empty_database, *["run_ready"] * 1001, f"cancel {new_run_id()}")
        while (await heard(quick)).kind is SignalKind.RUN_READY:
            pass
        assert (await heard(slow)).kind is SignalKind.WAKE


async def test_leaving_ends_every_listener(empty_database: Dsn) -> None:
    async with PostgresSignals(empty_database.asyncpg_kwargs()) as signals:
        listener = signals.listen()
        waiting = asyncio.create_task(anext(listener, None))
        await asyncio.sleep(0)
    async with asyncio.timeout(WAIT):
        assert await waiting is None


async def test_a_database_that_is_not_there_is_said_at_once(empty_database: Dsn, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot listen"):
        async with PostgresSignals(replace(empty_database, host=str(tmp_path)).asyncpg_kwargs()):
            pass
