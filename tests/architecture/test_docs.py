"""The reference cannot lag: what the code has and a page does not, or the other way round, fails here."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import heddle_cli
import heddle_core
import heddle_server
from heddle_cli.main import COMMANDS
from heddle_core.domain.errors import HeddleError
from heddle_core.domain.events import StreamMode
from heddle_core.domain.run import LEGAL_TRANSITIONS, Durability, RunStatus
from heddle_server import config
from heddle_server.config import StartError
from heddle_server.http.errors import status_of
from heddle_server.settings import Settings
from tests.server.http.world import serving

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "SECURITY.md"]

ANYWHERE = {"403", "413", "421", "422", "500", "503"}
"""Statuses that the page states once for all routes."""

UNDESCRIBED = {"GET /docs": {"200"}, "GET /docs/{name}": {"200", "404"}, "GET /openapi.json": {"200"}}
"""Routes that describe the others."""


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def section(text: str, heading: str) -> str:
    level = heading.split(" ")[0]
    after = text.partition(f"\n{heading}\n")[2]
    return re.split(rf"\n#{{1,{len(level)}}} ", after, maxsplit=1)[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture
async def description() -> dict[str, Any]:
    async with serving() as world, httpx.AsyncClient(base_url=world.url) as http:
        described: dict[str, Any] = (await http.get("/openapi.json")).raise_for_status().json()
        return described


def operations(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def documented_routes() -> dict[str, set[str]]:
    found = {}
    for cells in rows(page("reference/api")):
        if (named := codes(cells[0])) and re.fullmatch(r"[A-Z]+ /\S*", named[0]):
            assert named[0] not in found, f"{named[0]} is there twice"
            found[named[0]] = set(cells[-1].split())
    return found


async def test_every_route_is_documented_with_its_statuses(description: dict[str, Any]) -> None:
    served = {
        route: set(operation["responses"]) - ANYWHERE for route, operation in operations(description).items()
    } | UNDESCRIBED
    assert documented_routes() == served


async def test_every_parameter_and_field_of_a_route_is_documented(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    missing = set()
    for route, operation in operations(description).items():
        (tag,) = operation["tags"]
        known = set(codes(section(page("reference/api"), f"## {tag.capitalize()}")))
        known = {re.split(r"[=:]", code)[0] for code in known}
        names = {p["name"] for p in operation.get("parameters", ()) if p["in"] != "path"}
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = content["schema"]
            reference = schema.get("$ref") or schema.get("items", {}).get("$ref")
            names |= set(schemas[reference.rpartition("/")[2]]["properties"])
        missing |= {f"{route}: {name}" for name in names - known}
    assert missing == set()


async def test_every_metric_is_documented() -> None:
    async with serving() as world, httpx.AsyncClient(base_url=world.url) as http:
        await http.get("/ok")
        text = (await http.get("/metrics")).text
    exposed = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for name in re.findall(r"^(lg_api_\w+)", text, re.MULTILINE)
        if not name.endswith("_created")
    }
    table = section(page("reference/api"), "### Metrics")
    assert {code for cells in rows(table) for code in codes(cells[0])} == exposed


def _subclasses(cls: type) -> Iterator[type]:
    for found in cls.__subclasses__():
        if found.__module__.startswith("heddle_"):
            yield found
            yield from _subclasses(found)


def _import_everything() -> None:
    for package in (heddle_core, heddle_server, heddle_cli):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(".keeper"):  # a program, not a module
                importlib.import_module(module.name)


def test_every_error_of_a_request_is_documented_with_its_status() -> None:
    _import_everything()
    table = section(page("reference/errors"), "## What a request answers")
    documented = {codes(cells[0])[0]: int(cells[1]) for cells in rows(table) if codes(cells[0]) and cells[1].isdigit()}
    raised = {}
    for cls in _subclasses(HeddleError):
        error = cls.__new__(cls)  # the status hangs on the class alone
        raised[cls.__name__] = status_of(error)
    assert documented == raised


def test_every_start_error_is_documented() -> None:
    _import_everything()
    table = section(page("reference/errors"), "## Why the command does not start")
    documented = {codes(cells[0])[0] for cells in rows(table) if codes(cells[0])}
    assert documented == {StartError.__name__, "InvalidDsn", *(cls.__name__ for cls in _subclasses(StartError))}


def test_the_ways_a_run_fails_are_documented() -> None:
    table = section(page("reference/errors"), "## How a run fails")
    documented = {code for cells in rows(table) for code in codes(cells[0])}
    own = {"TimeoutError", "WorkerLost", "Unavailable", "GraphLoadError"}
    assert own <= documented
    statuses = {code for cells in rows(table) for code in codes(cells[1])}
    assert statuses == {RunStatus.ERROR, RunStatus.TIMEOUT}


def test_every_stream_mode_is_documented() -> None:
    table = section(page("reference/streaming"), "## Modes")
    assert {codes(cells[0])[0] for cells in rows(table) if codes(cells[0])} == set(StreamMode)


def test_the_drawing_of_a_runs_life_is_the_table_of_transitions() -> None:
    drawing = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", page("explanation/run-engine"), re.DOTALL)
    assert drawing is not None
    arrows = re.findall(r"^\s*(\S+) --> ([^\s:]+)", drawing[1], re.MULTILINE)
    drawn = {(RunStatus(a), RunStatus(b)) for a, b in arrows if "[*]" not in (a, b)}
    assert drawn == LEGAL_TRANSITIONS
    assert {a for a, b in arrows if b == "[*]"} == {status for status in RunStatus if status.is_terminal}


def test_every_durability_is_explained() -> None:
    text = section(page("explanation/run-engine"), "## Checkpoints")
    assert {code for cells in rows(text) for code in codes(cells[0])} == set(Durability)


def test_every_setting_is_documented() -> None:
    documented = {codes(cells[0])[0] for cells in rows(page("reference/settings")) if codes(cells[0])}
    assert {field.alias for field in Settings.model_fields.values()} <= documented


def test_every_command_is_documented_and_no_other() -> None:
    assert set(re.findall(r"^## heddle (\w+)$", page("reference/cli"), re.MULTILINE)) == set(COMMANDS)


def test_every_key_of_the_project_file_is_documented() -> None:
    known = set(codes(page("reference/config")))
    keys = {*config.BUILD_ONLY, *config.NOT_YET, "graphs", "dependencies", "env", "http.cors"}
    keys |= {f"http.{name}" for name in (*config._ABSENT, *config._ALWAYS_ON, "configurable_headers")}
    assert keys - known == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(link)
    assert broken == []


def _anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
