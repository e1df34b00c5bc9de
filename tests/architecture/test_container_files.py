"""Dockerfile and compose file, checked as files: no container engine runs in the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]


@pytest.fixture
def steps() -> list[dict[str, Any]]:
    parser = DockerfileParser(path=str(ROOT / "Dockerfile"))
    structure: list[dict[str, Any]] = parser.structure
    return structure


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def values(steps: list[dict[str, Any]], instruction: str) -> list[str]:
    return [step["value"] for step in steps if step["instruction"] == instruction]


def test_the_image_runs_as_a_user_without_rights(steps: list[dict[str, Any]]) -> None:
    assert values(steps, "USER") == ["heddle"]
    assert any("useradd" in value for value in values(steps, "RUN"))


def test_the_image_installs_what_the_lock_says_with_hashes(steps: list[dict[str, Any]]) -> None:
    assert any("--require-hashes" in value and "requirements.lock" in value for value in values(steps, "RUN"))


def test_the_image_refuses_to_start_without_a_database(steps: list[dict[str, Any]]) -> None:
    (command,) = values(steps, "CMD")
    assert "${DATABASE_URL:?" in json.loads(command)[-1]


def test_everything_the_image_copies_exists(steps: list[dict[str, Any]]) -> None:
    sources = [source for value in values(steps, "COPY") if "--from" not in value for source in value.split()[:-1]]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_compose_file_fits_the_compose_specification() -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    compose_file = ROOT / "docker-compose.yml"
    result = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", compose_file], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_compose_has_a_database_and_one_server_and_shows_neither_to_the_network(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"postgres", "server"}
    ports = [port for service in services.values() for port in service["ports"]]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_has_no_password_in_it(compose: dict[str, Any]) -> None:
    secrets = [compose["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"]]
    secrets.append(compose["services"]["server"]["environment"]["DATABASE_URL"])
    assert all("${POSTGRES_PASSWORD:?" in secret for secret in secrets)
