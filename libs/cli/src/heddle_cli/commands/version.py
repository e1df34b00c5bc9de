"""Print the version of Heddle."""

from __future__ import annotations

import argparse
from importlib.metadata import version


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # it has no flags


def run(options: argparse.Namespace) -> int:
    del options
    print(f"heddle {version('heddle-cli')}")
    return 0
