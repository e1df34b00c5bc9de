"""The two worlds of the storage tests, each on a migrated database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from heddle_server.dsn import Dsn
from tests.support.checkpoint_world import CheckpointWorld
from tests.support.queue_world import QueueWorld, queue_world


@pytest.fixture
async def world(database: Dsn) -> AsyncIterator[CheckpointWorld]:
    async with CheckpointWorld.open(database) as world:
        yield world


@pytest.fixture
async def queued(database: Dsn) -> AsyncIterator[QueueWorld]:
    async with queue_world(database) as world:
        yield world
