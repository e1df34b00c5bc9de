"""Serve the project in production.

One process that serves the API and executes runs. Start several on one DATABASE_URL for more room. Without
DATABASE_URL it uses the embedded PostgreSQL of the data folder, which several processes may share too. On
SIGTERM or Ctrl-C it stops taking work and lets runs finish for BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS; a second
signal stops it at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import threading
from pathlib import Path

from heddle_cli import collector, leaving, network
from heddle_cli.explain import explain
from heddle_cli.postgres import Running
from heddle_cli.project import (
    address_arguments,
    config_argument,
    open_project,
    own_environment,
    refuse_roles,
    start_database,
    variables,
)
from heddle_cli.server_process import DEFAULT_APP, load_factory

_log = logging.getLogger("heddle_cli.serve")
_LOOK_AROUND = 2.0


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    address_arguments(parser)


def run(options: argparse.Namespace) -> int:
    refuse_roles(options)
    return serve(
        options.config,
        host=options.host,
        port=options.port,
        allow_unauthenticated=options.allow_unauthenticated,
    )


def serve(
    config: Path | None,
    *,
    host: str | None = None,
    port: int | None = None,
    allow_unauthenticated: bool = False,
    app: str = DEFAULT_APP,
) -> int:
    """Serve until a signal says stop; `app` names the function that makes the application."""
    collector.look_rarely()
    from heddle_cli import serving
    from heddle_server import environment, logs
    from heddle_server.settings import Settings

    project = open_project(config)
    settings = Settings.load(project.config)
    logs.configure(settings.log_level, json=settings.log_json)
    for warning in project.config.warnings:
        _log.warning("config_warning", extra={"warning": warning})
    host = settings.host if host is None else host
    network.require_safe(host, allow_unauthenticated=allow_unauthenticated)
    if not network.is_loopback(host):
        _log.warning(
            "unauthenticated_access",
            extra={"host": host, "hint": "others can reach it, nobody is asked who they are"},
        )
    listener = network.listen(host, settings.port if port is None else port)
    address = network.url(host, network.port_of(listener))
    running = start_database(project)
    done = threading.Event()
    code = 1
    try:
        own_environment(variables(project, running))
        environment.export(project.config)
        settings = Settings.load(project.config)
        if running is not None:
            threading.Thread(target=_keep_up, args=(running, done), daemon=True).start()
        application = load_factory(app)(settings, project.config)
        serving.serve(
            application,
            listener,
            grace=settings.shutdown_grace_seconds,
            on_ready=lambda: _log.info("server_ready", extra={"url": address, "pid": os.getpid()}),
        )
        code = 0
    except Exception as error:
        _log.debug("server_start_failed", exc_info=True)
        raise explain(error, settings.database) from error
    finally:
        done.set()
        listener.close()
        if running is not None:
            running.stop()
        leaving.leave(code)
    return code


def _keep_up(running: Running, done: threading.Event) -> None:
    """Bring the embedded database back when its keeper was killed."""
    while not done.wait(_LOOK_AROUND):
        if running.ensure():
            _log.warning("postgres_started_again")
