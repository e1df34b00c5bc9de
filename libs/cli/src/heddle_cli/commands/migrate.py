"""Bring the database schema to a revision, or show where it is.

up [REVISION]    to the newest revision, or to one (the server does this at every start)
down REVISION    back to a revision; `base` removes everything that migrations made, data included
current          the revisions the database is at
history          every revision this installation knows
check            exit with 1 unless the database is where this version needs it
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from heddle_cli.explain import explain
from heddle_cli.project import config_argument, database, open_project
from heddle_server.dsn import Dsn


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    after = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    config_argument(after)  # absent, it must not undo one that stands before the action
    actions = parser.add_subparsers(dest="action", required=True, metavar="up | down | current | history | check")
    up = actions.add_parser("up", parents=[after], help="to the newest revision, or to REVISION")
    up.add_argument("revision", nargs="?", default="heads", metavar="REVISION")
    down = actions.add_parser("down", parents=[after], help="back to REVISION, or to `base`")
    down.add_argument("revision", metavar="REVISION")
    actions.add_parser("current", parents=[after], help="where the database is")
    actions.add_parser("history", parents=[after], help="every known revision")
    actions.add_parser("check", parents=[after], help="is the database where this version needs it?")


def run(options: argparse.Namespace) -> int:
    project = open_project(options.config)
    guests = project.config.guest_migrations
    if options.action == "history":
        return _history(guests)
    with database(project) as dsn:
        try:
            print(asyncio.run(_act(options.action, dsn, guests, getattr(options, "revision", ""))))
        except Exception as error:
            raise explain(error, dsn) from error
    return 0


async def _act(action: str, dsn: Dsn, guests: Sequence[Path], revision: str) -> str:
    from heddle_server.storage import migrate

    match action:
        case "up":
            await migrate.upgrade(dsn, guests, revision)
        case "down":
            await migrate.downgrade(dsn, revision, guests)
        case "check":
            await migrate.check(dsn, guests)
            return f"{dsn.redacted()} is where this version needs it"
    return f"{dsn.redacted()} is at {', '.join(await migrate.current(dsn, guests)) or 'base'}"


def _history(guests: Sequence[Path]) -> int:
    from heddle_server.storage import migrate

    for version in migrate.history(guests):
        print(f"{version.revision:<24} {version.title}")
    return 0
