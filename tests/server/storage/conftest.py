from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from tests.support.checkpoint_world import CheckpointWorld
from tests.support.pg_hot import Server, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running_server() as server:
        asyncio.run(server.prepare())
        yield server


@pytest.fixture
async def world(server: Server) -> AsyncIterator[CheckpointWorld]:
    database = f"test-{uuid4().hex[:12]}"
    await server.clone(database)
    try:
        async with CheckpointWorld.open(server, database) as world:
            yield world
    finally:
        await server.drop(database)
