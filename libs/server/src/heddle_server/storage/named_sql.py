"""Reads a `.sql` file of hand-written statements, each under a line `-- name: x`."""

from __future__ import annotations

import re
from importlib.resources import files
from types import MappingProxyType

__all__ = ["statements"]

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def statements(file: str) -> MappingProxyType[str, str]:
    """The statements of a file beside this module, by name."""
    text = files(__package__).joinpath(file).read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    found = {name: body.strip().rstrip(";") for name, body in zip(parts[::2], parts[1::2], strict=True)}
    if len(found) * 2 != len(parts):
        raise ValueError(f"{file} names a statement twice")
    return MappingProxyType(found)
