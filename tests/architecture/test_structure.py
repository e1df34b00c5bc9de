"""The walls of the house, checked where the import linter cannot see."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [*sorted((ROOT / "libs").rglob("*.py")), *sorted((ROOT / "graphs").rglob("*.py"))]
MAX_LINES = 400
GUEST_MAY_IMPORT = {"heddle_kit", "graphs"}
OURS = {"heddle_core", "heddle_server", "heddle_cli", "heddle_kit", "graphs"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCES
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert too_long == {}


def test_graphs_know_nothing_of_the_server() -> None:
    strangers = {
        (str(path.relative_to(ROOT)), name)
        for path in sorted((ROOT / "graphs").rglob("*.py"))
        for name in imported(path)
        if name.split(".")[0] in OURS - GUEST_MAY_IMPORT
    }
    assert strangers == set()


def test_a_graph_package_never_imports_another() -> None:
    strangers = set()
    for path in sorted((ROOT / "graphs").rglob("*.py")):
        own = path.relative_to(ROOT).parts[1]
        strangers |= {
            (str(path.relative_to(ROOT)), name)
            for name in imported(path)
            if re.match(r"graphs\.\w+", name) and name.split(".")[1] != own
        }
    assert strangers == set()


def test_the_core_imports_the_standard_library_alone() -> None:
    foreign = {
        (str(path.relative_to(ROOT)), name)
        for path in sorted((ROOT / "libs" / "core").rglob("*.py"))
        for name in imported(path)
        if (top := name.split(".")[0]) not in sys.stdlib_module_names and top != "heddle_core"
    }
    assert foreign == set()


def test_only_storage_signals_and_the_kit_speak_to_the_database() -> None:
    allowed = ("heddle_server/storage", "heddle_server/signals", "heddle_kit/database", "heddle_cli")
    speakers = {
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "libs").rglob("*.py"))
        if imported(path) & {"sqlalchemy", "asyncpg"} and not any(part in path.as_posix() for part in allowed)
    }
    assert speakers <= {"libs/server/src/heddle_server/main.py"}


def test_the_lock_file_names_no_address() -> None:
    assert not re.search(r"https?://", (ROOT / "requirements.lock").read_text())


def test_every_locked_requirement_has_a_hash() -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_there_is_one_version_in_one_place() -> None:
    version = (ROOT / "VERSION").read_text().strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    for project in [*(ROOT / "libs").glob("*/pyproject.toml"), ROOT / "graphs" / "pyproject.toml"]:
        text = project.read_text()
        assert 'dynamic = ["version"]' in text, project
        assert not re.search(r"^version *=", text, re.MULTILINE), project
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("package", ["core", "server", "cli", "kit"])
def test_every_library_ships_its_types(package: str) -> None:
    assert (ROOT / "libs" / package / "src" / f"heddle_{package}" / "py.typed").exists()


def test_the_core_stands_alone_in_an_empty_environment(tmp_path: Path) -> None:
    wheel_folder = tmp_path / "wheels"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(wheel_folder), str(ROOT / "libs" / "core")], check=True)
    (wheel,) = wheel_folder.glob("heddle_core-*.whl")
    venv.create(tmp_path / "empty", with_pip=False)
    python = tmp_path / "empty" / "bin" / "python"
    modules = [
        ".".join(path.relative_to(ROOT / "libs" / "core" / "src").with_suffix("").parts)
        for path in sorted((ROOT / "libs" / "core" / "src").rglob("*.py"))
        if path.name != "__init__.py"
    ]
    program = f"import sys; sys.path.insert(0, {str(wheel)!r})\n" + "\n".join(f"import {name}" for name in modules)
    subprocess.run([str(python), "-I", "-c", program], check=True)
