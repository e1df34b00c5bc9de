"""A running HTTP floor for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.server.http.world import World, serving


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as world:
        yield world
