"""Tests that need more than Python: skipped with the command that installs it, or failed in CI."""

from __future__ import annotations

import os

import pytest


def require(name: str, available: bool, install: str) -> None:
    """Go on when `name` is available. Otherwise skip, or fail when HEDDLE_REQUIRE names it."""
    if available:
        return
    message = f"{name} is not installed: run `{install}`"
    if name in os.environ.get("HEDDLE_REQUIRE", "").replace(" ", "").split(","):
        pytest.fail(message)
    pytest.skip(message)
