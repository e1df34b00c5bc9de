"""The one place that says which paths a project file may have. Every way in asks here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from heddle_kit.git.port import BadPath

ROOTS = ("dags", "plugins", "include", "tests")
TOP_LEVEL_FILES = (".gitignore", "README.md")
MAX_PART_BYTES = 255
MAX_PATH_BYTES = 1024

# `git~1` is the short name Windows gives `.git`; trailing dots and spaces are dropped there too.
_DISGUISED_GIT = re.compile(r"^(\.git|git~\d+)[. ]*(:.*)?$", re.IGNORECASE)
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def check_path(path: str, *, roots: Sequence[str] = ROOTS) -> str:
    """The path itself when a project file may have it, otherwise BadPath saying why."""
    if not path:
        raise BadPath("a file path is empty")
    if "\\" in path:
        raise BadPath(f"{path!r} holds a backslash: separate folders with /")
    if any(unicodedata.category(letter) in _INVISIBLE for letter in path):
        raise BadPath(f"{path!r} holds a control or invisible character")
    if unicodedata.normalize("NFC", path) != path:
        raise BadPath(f"{path!r} is not in Unicode normal form C")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise BadPath(f"a path of {len(path.encode())} bytes is longer than {MAX_PATH_BYTES}")
    parts = path.split("/")
    for part in parts:
        _check_part(part, path)
    if len(parts) == 1 and path not in TOP_LEVEL_FILES:
        raise BadPath(f"{path!r} is outside the folders of a project ({', '.join(roots)})")
    if len(parts) > 1 and parts[0] not in roots:
        raise BadPath(f"{path!r} is outside the folders of a project ({', '.join(roots)})")
    return path


def _check_part(part: str, path: str) -> None:
    if part in ("", ".", ".."):
        raise BadPath(f"{path!r} is not a plain relative path")
    if _DISGUISED_GIT.match(part):
        raise BadPath(f"{path!r} names git's own folder")
    if part != part.rstrip(". "):
        raise BadPath(f"{path!r} has a part that ends in a dot or a space")
    if len(part.encode()) > MAX_PART_BYTES:
        raise BadPath(f"a part of {path[:60]!r} is longer than {MAX_PART_BYTES} bytes")
