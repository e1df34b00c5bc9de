"""One real server per test process, on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from heddle_cli.postgres import Running
from tests.support.postgres_server import fresh_database
from tests.support.server import Server, serving


@pytest.fixture(scope="session")
def server(postgres: Running, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server most tests share: each uses threads of its own."""
    folder = tmp_path_factory.mktemp("server")
    with (
        fresh_database(postgres, migrated_template) as address,
        serving(address.libpq_url(), folder, environment={"ENVIRONMENT": "production"}) as running,
    ):
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url, api_key=None) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
