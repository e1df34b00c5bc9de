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
from heddle_server.signals.postgres import PostgresSignals
from tests.support.pg_queue import Address
from tests.support.queue_world import fresh_database

WAIT = 5.0


@pytest.fixture
async def address(postgres: Address) -> AsyncIterator[Address]:
    async with fresh_database(postgres, template=None) as address:
        yield address


async def ring(address: Address, *payloads: str) -> None:
    connection = await asyncpg.connect(**address.asyncpg_kwargs())
    try:
        for payload in payloads:
            await connection.execute("SELECT pg_notify('heddle', $1)", payload)
    finally:
        await connection.close()


async def heard(listener: AsyncIterator[Signal]) -> Signal:
    async with asyncio.timeout(WAIT):
        return await anext(listener)


async def kill_listeners(address: Address) -> None:
    await address.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'heddle signals'"
    )


async def test_every_listener_hears_every_signal_from_its_call_on(address: Address) -> None:
    run_id = new_run_id()
    async with PostgresSignals(address.asyncpg_kwargs()) as signals:
        one, two = signals.listen(), signals.listen()
        await ring(address, "run_ready", f"cancel {run_id}", f"run_ended {run_id}")
        for listener in (one, two):
            assert await heard(listener) == Signal(SignalKind.RUN_READY)
            assert await heard(listener) == Signal(SignalKind.CANCEL, run_id)
            assert await heard(listener) == Signal(SignalKind.RUN_ENDED, run_id)


async def test_what_is_not_a_signal_is_passed_over(address: Address) -> None:
    async with PostgresSignals(address.asyncpg_kwargs()) as signals:
        listener = signals.listen()
        await ring(address, "", "nonsense", "cancel not-a-uuid", "run_ready")
        assert await heard(listener) == Signal(SignalKind.RUN_READY)


async def test_a_lost_connection_heals_and_says_wake(address: Address) -> None:
    async with PostgresSignals(address.asyncpg_kwargs()) as signals:
        listener = signals.listen()
        for _ in range(2):
            await kill_listeners(address)
            assert await heard(listener) == Signal(SignalKind.WAKE)
            await ring(address, "run_ready")
            assert await heard(listener) == Signal(SignalKind.RUN_READY)


async def test_a_listener_far_behind_is_told_to_look_for_itself(address: Address) -> None:
    async with PostgresSignals(address.asyncpg_kwargs()) as signals:
        slow, quick = signals.listen(), signals.listen()
        await ring(address, *["run_ready"] * 1001, f"cancel {new_run_id()}")
        while (await heard(quick)).kind is SignalKind.RUN_READY:
            pass
        assert (await heard(slow)).kind is SignalKind.WAKE


async def test_leaving_ends_every_listener(address: Address) -> None:
    async with PostgresSignals(address.asyncpg_kwargs()) as signals:
        listener = signals.listen()
        waiting = asyncio.create_task(anext(listener, None))
        await asyncio.sleep(0)
    async with asyncio.timeout(WAIT):
        assert await waiting is None


async def test_a_database_that_is_not_there_is_said_at_once(address: Address, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot listen"):
        async with PostgresSignals(replace(address, folder=tmp_path).asyncpg_kwargs()):
            pass
