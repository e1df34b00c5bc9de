"""Fixtures of the queue's tests; import them where they are used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.pg_queue import Address, server, wheel_binaries
from tests.support.queue_world import QueueWorld, make_template, queue_world


@pytest.fixture(scope="session")
def postgres() -> Iterator[Address]:
    with server(wheel_binaries()) as address:
        asyncio.run(make_template(address))
        yield address


@pytest.fixture
async def queued(postgres: Address) -> AsyncIterator[QueueWorld]:
    async with queue_world(postgres) as world:
        yield world
