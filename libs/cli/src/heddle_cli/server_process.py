"""The server as a child process of `dev` and `demo`: `python -m heddle_cli.server_process JOB`.

It begins with the imports, which take most of the start, while its parent is still starting the database. Then
it reads one JSON line from the pipe `orders`: variables for its environment. When that pipe closes, the parent is
gone, and the server stops. It writes one JSON line to the pipe `news`: that it is ready, or why it is not.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heddle_cli import collector, leaving
from heddle_server.config import ProjectConfig, StartError

_log = logging.getLogger(__name__)

DEFAULT_APP = "heddle_server.main:create_app"
AppFactory = Callable[[Any, ProjectConfig], Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the parent wants served. `app` is `module:function`, called with Settings and ProjectConfig."""

    config: str
    listener: int
    orders: int
    news: int
    grace: float
    app: str = DEFAULT_APP


def main(argv: list[str]) -> int:
    job = Job(**json.loads(argv[1]))
    try:
        _serve(job)
    except StartError as error:
        _tell(job, {"error": error.message, "fix": error.fix})
        return leaving.leave(1)
    return leaving.leave(0)


def _serve(job: Job) -> None:
    collector.look_rarely()
    create_app = load_factory(job.app)
    from heddle_cli import serving
    from heddle_cli.explain import explain
    from heddle_server import environment, logs
    from heddle_server.settings import Settings

    orders = os.fdopen(job.orders, "rb", buffering=0)
    line = orders.readline()
    if not line:
        return  # the parent is gone
    os.environ.update(json.loads(line))
    config = ProjectConfig.load(Path(job.config))
    environment.export(config)
    settings = Settings.load(config)
    logs.configure(settings.log_level, json=settings.log_json)
    threading.Thread(target=_stop_with_parent, args=(orders,), daemon=True).start()
    listener = socket.socket(fileno=job.listener)
    try:
        app = create_app(settings, config)
        serving.serve(app, listener, grace=job.grace, on_ready=lambda: _tell(job, {"ready": True}))
    except Exception as error:
        _log.debug("server_start_failed", exc_info=True)
        raise explain(error, settings.database) from error


def load_factory(name: str) -> AppFactory:
    """The function that makes the app, named as `module:function`."""
    module, _, function = name.partition(":")
    factory: AppFactory = getattr(importlib.import_module(module), function)
    return factory


def _stop_with_parent(orders: Any) -> None:
    while orders.read(4096):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


def _tell(job: Job, news: dict[str, Any]) -> None:
    os.write(job.news, json.dumps(news).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
