"""Serve the project for development.

Starts the embedded PostgreSQL (or uses DATABASE_URL), applies migrations, serves on http://127.0.0.1:2024,
and restarts the server when the project's files change. The server that runs goes on serving until the new
one is ready, so a mistake in the code costs nothing but a message. Ctrl-C lets runs finish for 3 seconds;
a second one stops at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from heddle_cli import network
from heddle_cli.dev_loop import DevLoop
from heddle_cli.project import address_arguments, config_argument, open_project, refuse_roles
from heddle_cli.server_process import DEFAULT_APP


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    address_arguments(parser)
    parser.add_argument("--no-reload", action="store_true", help="do not restart the server when files change")


def run(options: argparse.Namespace) -> int:
    refuse_roles(options)
    return develop(
        options.config,
        host=options.host,
        port=options.port,
        reload=not options.no_reload,
        allow_unauthenticated=options.allow_unauthenticated,
    )


def develop(
    config: Path | None,
    *,
    host: str | None = None,
    port: int | None = None,
    reload: bool = True,
    allow_unauthenticated: bool = False,
    app: str = DEFAULT_APP,
) -> int:
    """Serve until a signal says stop; `app` names the function that makes the application."""
    project = open_project(config)
    for warning in project.config.warnings:
        print(f"heddle: {warning}", file=sys.stderr)
    host = project.host if host is None else host
    network.require_safe(host, allow_unauthenticated=allow_unauthenticated)
    if not network.is_loopback(host):
        print(
            f"heddle: warning: {host} can be reached by others, and nobody is asked who they are",
            file=sys.stderr,
        )
    os.environ.setdefault("ENVIRONMENT", "development")
    with network.listen(host, project.port if port is None else port) as listener:
        return DevLoop(project, listener, host=host, reload=reload, app=app).run()
