"""Check the machine and the project, and name a fix for each finding.

Looks at the Python, the project file, the settings, the data folder, the database and its migrations, the
graphs, git, the port and the model keys. Exits with 1 when something would keep the server from starting.
"""

from __future__ import annotations

import argparse

from heddle_cli.project import config_argument


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)


def run(options: argparse.Namespace) -> int:
    from heddle_cli.checks import Level, examine

    findings = list(examine(options.config))
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        print(f"{finding.level:<7} {finding.subject:<{width}}  {finding.message}")
        if finding.fix:
            print(f"{'':<7} {'':<{width}}  fix: {finding.fix}")
    errors = sum(finding.level is Level.ERROR for finding in findings)
    print(f"\n{errors} error{'' if errors == 1 else 's'}" if errors else "\nnothing keeps the server from starting")
    return 1 if errors else 0
