"""A fresh embedded server for measurements in this process, as durable as in production."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heddle_cli.postgres import EmbeddedPostgres, Running


@contextmanager
def server() -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="heddle-bench-") as folder:
        Path(folder).chmod(0o711)  # the server may run as another user
        with EmbeddedPostgres.start(Path(folder) / "pg") as running:
            yield running
