"""Settings: from the environment over the project's `env`, complete, documented, and strict."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from heddle_server import environment, settings
from heddle_server.config import ConfigError, ProjectConfig
from heddle_server.settings import NOT_YET, Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> ProjectConfig:
    return make(tmp_path, {})


def make(folder: Path, env: dict[str, str]) -> ProjectConfig:
    (folder / "graph.py").write_text("graph = None\n")
    file = folder / "agent.json"
    file.write_text(json.dumps({"graphs": {"one": "./graph.py:graph"}, "env": env}))
    return ProjectConfig.load(file)


def test_an_empty_environment_gives_the_defaults(project: ProjectConfig) -> None:
    loaded = Settings.load(project, {})
    assert (loaded.host, loaded.port, loaded.database) == ("127.0.0.1", 2024, None)
    assert loaded.data_dir == project.root / ".heddle"
    assert (loaded.jobs_per_worker, loaded.pool_max_size, loaded.max_body_bytes) == (100, 10, 32 * 1024 * 1024)
    assert (loaded.shutdown_grace_seconds, loaded.resumable_stream_ttl_seconds) == (180, 120)


def test_what_is_really_set_wins_over_the_project(tmp_path: Path) -> None:
    project = make(tmp_path, {"PORT": "3000", "LOG_LEVEL": "debug"})
    assert Settings.load(project, {"PORT": "4000"}).port == 4000
    assert Settings.load(project, {}).port == 3000
    assert Settings.load(project, {}).log_level == "DEBUG"


def test_graphs_get_the_projects_env_without_losing_what_is_set(tmp_path: Path) -> None:
    target = {"A": "set"}
    environment.export(make(tmp_path, {"A": "1", "B": "2"}), target)
    assert target == {"A": "set", "B": "2"}


@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_URI", "POSTGRES_URI"])
def test_the_database_has_three_names(project: ProjectConfig, name: str) -> None:
    loaded = Settings.load(project, {name: "postgres://u:hunter2@db/app"})
    assert loaded.database is not None
    assert loaded.database.host == "db"
    assert "hunter2" not in repr(loaded)


def test_two_names_that_differ_are_refused_and_two_that_agree_are_not(project: ProjectConfig) -> None:
    same = {"DATABASE_URL": "postgres://db/a", "POSTGRES_URI": "postgres://db/a"}
    assert Settings.load(project, same).database is not None
    with pytest.raises(ConfigError, match="DATABASE_URL and POSTGRES_URI are both set and differ"):
        Settings.load(project, same | {"POSTGRES_URI": "postgres://db/b"})
    with pytest.raises(ConfigError, match="HEDDLE_DATA_DIR and WORKDIR"):
        Settings.load(project, {"HEDDLE_DATA_DIR": "/a", "WORKDIR": "/b"})


def test_a_relative_data_folder_is_in_the_project(project: ProjectConfig) -> None:
    assert Settings.load(project, {"WORKDIR": "data"}).data_dir == project.root / "data"
    assert Settings.load(project, {"HEDDLE_DATA_DIR": "/srv/heddle"}).data_dir == Path("/srv/heddle")


def test_lists_are_comma_separated(project: ProjectConfig) -> None:
    loaded = Settings.load(
        project, {"CORS_ALLOW_ORIGINS": "https://a.example, https://b.example,", "ALLOWED_HOSTS": "*"}
    )
    assert loaded.cors_allow_origins == ("https://a.example", "https://b.example")
    assert loaded.allowed_hosts == ("*",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("N_JOBS_PER_WORKER", "0"),
        ("BG_JOB_TIMEOUT_SECS", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_JSON", "perhaps"),
        ("ENVIRONMENT", "staging"),
        ("HEDDLE_LEASE_SECONDS", "1"),
        ("LANGGRAPH_POSTGRES_POOL_MAX_SIZE", "1"),
    ],
)
def test_a_wrong_value_is_refused_by_the_variables_name(project: ProjectConfig, name: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.load(project, {name: value})
    assert refused.value.message.startswith(f"{name} is wrong")
    assert value in refused.value.message


def test_a_wrong_database_address_does_not_show_its_password(project: ProjectConfig) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.load(project, {"DATABASE_URL": "mysql://u:hunter2@db/app"})
    assert "DATABASE_URL" in refused.value.message
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(NOT_YET))
def test_a_variable_this_version_does_not_honour_is_refused_by_name(project: ProjectConfig, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Settings.load(project, {name: "something"})
    assert Settings.load(project, {name: ""}).port == 2024


def test_features_that_are_off_may_be_switched_off(project: ProjectConfig) -> None:
    assert Settings.load(project, {"FF_CRONS_ENABLED": "false", "FF_V2_EVENT_STREAMING": "0"})
    with pytest.raises(ConfigError, match="FF_CRONS_ENABLED"):
        Settings.load(project, {"FF_CRONS_ENABLED": "true"})


def test_every_setting_says_what_it_does() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description or not field.alias] == []


def test_the_example_file_is_what_the_settings_say() -> None:
    assert (ROOT / ".env.example").read_text() == settings.env_example(), (
        "run: python -m heddle_server.settings --env-example > .env.example"
    )


def test_the_reference_page_is_what_the_settings_say() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    assert page == settings.markdown(), "run: python -m heddle_server.settings --markdown > docs/reference/settings.md"


def test_the_module_prints_both() -> None:
    command = [sys.executable, "-m", "heddle_server.settings"]
    assert subprocess.run([*command, "--env-example"], capture_output=True, text=True, check=True).stdout == (
        settings.env_example()
    )
    assert subprocess.run([*command, "--markdown"], capture_output=True, text=True, check=True).stdout == (
        settings.markdown()
    )


def test_the_example_file_has_every_default_and_can_be_read_back(project: ProjectConfig) -> None:
    lines = [line[2:] for line in settings.env_example().splitlines() if line.startswith("# ") and "=" in line]
    given = dict(
        line.split("=", 1) for line in lines if line.split("=", 1)[0].isupper() or "_" in line.split("=", 1)[0]
    )
    given = {name: value for name, value in given.items() if name in {f.alias for f in Settings.model_fields.values()}}
    assert len(given) == len(Settings.model_fields)
    assert Settings.load(project, given).port == 2024
