"""Where the data of this process is, and the store over it."""

from __future__ import annotations

import os
from pathlib import Path

from graphs.dag_author.problems import Code, Refused
from graphs.dag_author.store import Store
from heddle_kit.git.embedded import LocalProjects


def store() -> Store:
    """The store below HEDDLE_DATA_DIR. It holds nothing open, so making one costs nothing."""
    folder = os.environ.get("HEDDLE_DATA_DIR", "").strip()
    if not folder:
        raise Refused.because(
            Code.COMMIT_FAILED,
            "disk",
            "HEDDLE_DATA_DIR is not set, so there is no place for projects",
            allowed="start the graph through heddle dev or heddle serve, which set it",
        )
    return Store(LocalProjects(Path(folder).absolute()))
