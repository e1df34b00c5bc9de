"""What `heddle dev` hears of changes to the project's files."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from heddle_cli.watching import Watcher
from heddle_server.config import ProjectConfig
from tests.cli.commands import project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = project(tmp_path / "p").resolve()
    for file in folder.iterdir():
        os.utime(file, (0, 0))
    return folder


@pytest.fixture
def watcher(folder: Path) -> Iterator[Watcher]:
    watcher = Watcher(ProjectConfig.load(folder / "agent.json"), folder / ".heddle")
    yield watcher
    watcher.stop()


def told(watcher: Watcher) -> list[Path]:
    assert select.select([watcher.ready], [], [], 20)[0], "nothing was told"
    return watcher.changed()


def test_a_change_right_after_the_start_is_told(watcher: Watcher, folder: Path) -> None:
    (folder / "one.py").write_text("graph = 'changed'\n")
    assert told(watcher) == [folder / "one.py"]


def test_a_file_that_comes_or_goes_right_after_the_start_is_told(watcher: Watcher, folder: Path) -> None:
    (folder / "one.py").unlink()
    (folder / "two.py").write_text("graph = 'new'\n")
    found: set[Path] = set()
    while len(found) < 2:
        found.update(told(watcher))
    assert found == {folder / "one.py", folder / "two.py"}


def test_what_no_graph_reads_is_not_told(watcher: Watcher, folder: Path) -> None:
    (folder / ".heddle").mkdir()
    (folder / ".heddle" / "state.json").write_text("{}")
    (folder / "picture.png").write_bytes(b"")
    (folder / "one.py").write_text("graph = 'changed'\n")
    assert told(watcher) == [folder / "one.py"]
