"""Fixtures of the tests of assistants and the store. Import the names; pytest finds them in the module."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import pg_assistants as pg


@pytest.fixture(scope="session")
def sockets() -> Iterator[Path]:
    with pg.server() as home:
        asyncio.run(pg.create_tables(home))
        yield home


@pytest.fixture
async def world(sockets: Path) -> AsyncIterator[pg.World]:
    engine = pg.engine_on(sockets)
    yield pg.world_on(engine)
    await pg.empty_tables(engine)
    await engine.dispose()


@pytest.fixture
async def client(world: pg.World) -> AsyncIterator[httpx.AsyncClient]:
    async with pg.client_of(pg.api_on(world)) as client:
        yield client


@pytest.fixture
async def pool(sockets: Path, world: pg.World) -> AsyncIterator[Any]:
    async with pg.pool_on(sockets) as pool:
        yield pool
