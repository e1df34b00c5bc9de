"""A data folder for each test that asks, copied from one that was made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.postgres.servers import copy, start


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared, stopped data folder, because initdb takes half a second."""
    data = tmp_path_factory.mktemp("made") / "pg"
    start(data).stop()
    return data


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return copy(made, tmp_path / ".heddle" / "pg")
