"""The `heddle` command: find the subcommand, load only that, and turn start errors into one clear message."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from heddle_server.config import StartError

COMMANDS = {
    "dev": "serve the project for development: embedded database, reload on change",
    "serve": "serve the project in production",
    "migrate": "bring the database schema up or down, or show where it is",
    "doctor": "check the machine and the project, and name a fix for each finding",
    "chat": "talk to an agent on a running server",
    "demo": "show the DAG author at work on a server of its own",
    "version": "print the version",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    name = {"--version": "version", "-V": "version"}.get(words[0], words[0])
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        print(f"heddle: there is no command '{name}'.{hint} See: heddle --help", file=sys.stderr)
        return 2
    command = importlib.import_module(f"heddle_cli.commands.{name}")
    parser = argparse.ArgumentParser(
        prog=f"heddle {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.arguments(parser)
    try:
        return int(command.run(parser.parse_args(words[1:])))
    except StartError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has left, as in `heddle doctor | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def complain(error: StartError) -> None:
    """Say what is wrong and what to do. `LOG_LEVEL=DEBUG` shows where it came from."""
    if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
        import traceback

        traceback.print_exception(error)
    print(f"heddle: {error.message}\n   fix: {error.fix}", file=sys.stderr, flush=True)


def _help() -> str:
    lines = ["usage: heddle COMMAND [options]", "", "A durable server for LangGraph agents.", "", "commands:"]
    lines += [f"  {name:<9} {what}" for name, what in COMMANDS.items()]
    return "\n".join([*lines, "", "Each command has its own --help."])


if __name__ == "__main__":
    sys.exit(main())
