"""Show the DAG author at work.

Starts a server on a free port with a database of its own, sends one sentence through the official client,
prints the steps as they stream, the file, the commit and the graph of tasks, and removes everything again.
Needs no key and no network, and uses none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from heddle_cli import network
from heddle_cli.child import Child
from heddle_cli.project import Project, config_argument, open_project, start_database, variables
from heddle_cli.server_process import DEFAULT_APP
from heddle_server.config import StartError

SENTENCE = (
    "/agent create daily pipeline that extracts orders from postgres, "
    "aggregates revenue per country and emails a report at 6am"
)
_ASSISTANT = "dag_author"
_PATIENCE = 10.0


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument("--text", default=SENTENCE, metavar="TEXT", help="another request than the usual one")


def run(options: argparse.Namespace) -> int:
    return demonstrate(options.config, options.text)


def demonstrate(config: Path | None, text: str = SENTENCE, *, app: str = DEFAULT_APP) -> int:
    """Run the demonstration; `app` names the function that makes the application."""
    project = open_project(config)
    if _ASSISTANT not in project.config.graphs:
        raise StartError(
            f"{project.config.path} has no graph {_ASSISTANT}, which the demo shows",
            fix="run the demo in a checkout of Heddle, or name its agent.json with --config",
        )
    with tempfile.TemporaryDirectory(prefix="heddle-demo-") as folder:
        # Its own data: the demo leaves nothing in the project, and no user's database is touched.
        own = replace(project, data_dir=Path(folder) / "data", database=None)
        with _server(own, app) as url:
            return asyncio.run(_talk(url, text))


@contextmanager
def _server(project: Project, app: str) -> Iterator[str]:
    environ = {
        name: value for name, value in os.environ.items() if name not in ("DATABASE_URI", "POSTGRES_URI", "WORKDIR")
    }
    # Empty, not absent: so the project's .env cannot bring a key back. The demo is the same for everybody.
    environ |= {"OPENAI_API_KEY": "", "OPENAI_API_BASE": ""}
    environ |= {"LOG_LEVEL": os.environ.get("LOG_LEVEL") or "WARNING", "ENVIRONMENT": "development"}
    with network.listen("127.0.0.1", 0) as listener:
        child = Child(project.config.path, listener, environ, grace=0, app=app)
        running = None
        try:
            running = start_database(project)
            child.go_on(variables(project, running))
            if (failure := child.hear().failure) is not None:
                raise failure
            yield network.url("127.0.0.1", network.port_of(listener))
        finally:
            child.close()
            try:
                child.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
            if running is not None:
                running.stop()


async def _talk(url: str, text: str) -> int:
    from heddle_cli.conversation import Conversation, RunFailed

    print(f"> {text}\n", flush=True)
    conversation = await Conversation.begin(url, _ASSISTANT, None, lambda piece: print(piece, end="", flush=True))
    try:
        await conversation.say(text)
        values = await conversation.values()
        dag_id = values.get("dag_id")
        if not isinstance(dag_id, str) or not dag_id:
            print("\nno DAG was made; the answer above says why")
            return 1
        show = f"/agent show {dag_id}"
        print(f"\n> {show}\n", flush=True)
        await conversation.say(show)
    except RunFailed as failure:
        print(f"\nheddle: the run failed: {failure}")
        return 1
    finally:
        await conversation.close()
    return 0
