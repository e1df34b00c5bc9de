"""The command line itself: help, version, wrong words."""

from __future__ import annotations

from pathlib import Path

import pytest

from heddle_cli.main import COMMANDS
from tests.cli.commands import ROOT, heddle


def test_help_lists_every_command(tmp_path: Path) -> None:
    done = heddle("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert heddle(cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_without_side_effects(name: str, tmp_path: Path) -> None:
    done = heddle(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"usage: heddle {name}" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_the_one_of_the_version_file(tmp_path: Path) -> None:
    version = (ROOT / "VERSION").read_text().strip()
    assert heddle("version", cwd=tmp_path).stdout == f"heddle {version}\n"
    assert heddle("--version", cwd=tmp_path).stdout == f"heddle {version}\n"


def test_a_wrong_word_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = heddle("serv", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean 'serve'?" in done.stderr


@pytest.mark.parametrize("words", [["dev", "--port", "http"], ["serve", "--port", "70000"], ["migrate", "sideways"]])
def test_wrong_flags_are_wrong_usage(words: list[str], tmp_path: Path) -> None:
    assert heddle(*words, cwd=tmp_path).returncode == 2


def test_every_command_and_flag_is_in_the_reference() -> None:
    import argparse
    import importlib

    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    missing = []
    for name in COMMANDS:
        parser = argparse.ArgumentParser(prog=name)
        importlib.import_module(f"heddle_cli.commands.{name}").arguments(parser)
        flags = [
            flag
            for action in parser._actions
            if action.help != argparse.SUPPRESS
            for flag in action.option_strings
            if flag not in ("-h", "--help")
        ]
        section = page.partition(f"## heddle {name}\n")[2].partition("\n## ")[0]
        missing += [
            f"heddle {name} {flag}" for flag in ["", *flags] if not section or (f"`{flag}" not in section and flag)
        ]
    assert missing == []
