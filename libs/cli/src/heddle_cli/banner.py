"""What `dev` prints when it is ready."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from heddle_cli import network
from heddle_cli.postgres import Running
from heddle_cli.project import Project

_EXAMPLE = (
    "/agent create daily pipeline that extracts orders from postgres, "
    "aggregates revenue per country and emails a report at 6am"
)
_STUDIO = "https://smith.langchain.com/studio/?baseUrl="


def banner(project: Project, running: Running | None, host: str, port: int, seconds: float) -> str:
    """The URLs, the database, the graphs, and one command to paste."""
    address = network.url(host, port)
    lines = [
        f"Heddle is ready in {seconds:.1f} s",
        "",
        f"  API        {address}",
        f"  Docs       {address}/docs",
        f"  Studio     {_STUDIO}{address}",
        f"  Database   {describe_database(project, running)}",
        f"  Graphs     {', '.join(project.config.graphs)}",
        "",
        f"  Try it     {first_command(project, address)}",
    ]
    return "\n".join(lines)


def describe_database(project: Project, running: Running | None) -> str:
    if project.database is not None:
        return project.database.redacted()
    version = f" {running.version}" if running else ""
    return f"embedded PostgreSQL{version} in {_short(project.cluster)}"


def first_command(project: Project, address: str) -> str:
    """A command that works when it is pasted into another terminal in this folder."""
    words = [_heddle(), "chat"]
    if address != "http://127.0.0.1:2024":
        words += ["--url", address]
    if "dag_author" in project.config.graphs:
        words.append(_EXAMPLE)
    else:
        words += ["--assistant", next(iter(project.config.graphs)), "hello"]
    return " ".join(f'"{word}"' if word == _EXAMPLE else shlex.quote(word) for word in words)


def _heddle() -> str:
    on_path = shutil.which("heddle")
    beside = Path(sys.executable).with_name("heddle")
    if on_path and (not beside.exists() or Path(on_path).samefile(beside)):
        return "heddle"
    return _short(beside)


def _short(path: Path) -> str:
    """The path as seen from here, when that is shorter."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
