"""The settings, from the environment, once. `python -m heddle_server.settings --help` prints them for people.

An empty variable counts as unset. A variable of this server's family that this version does not honour is
refused by name: silence would mean, for one, data stored without the encryption that was asked for.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from heddle_server import environment
from heddle_server.config import ConfigError, ProjectConfig
from heddle_server.dsn import Dsn

__all__ = ["NOT_YET", "Environment", "LogLevel", "Settings"]

_MIB = 1024 * 1024
_IN_CONFIG = "put it in agent.json instead"

NOT_YET: Mapping[str, str] = {
    "REDIS_URL": "unset it: events and signals use this process and Postgres in this version",
    "REDIS_URI": "unset it: events and signals use this process and Postgres in this version",
    "MOUNT_PREFIX": "unset it and let your proxy strip the prefix",
    "LANGGRAPH_AES_KEY": "unset it: this version stores checkpoints unencrypted",
    "LANGSERVE_GRAPHS": "name the graphs in agent.json",
    "LANGGRAPH_AUTH": "unset it: this version has no auth handlers; put a proxy that authenticates in front",
    "LANGGRAPH_ENCRYPTION": "unset it: this version has no custom encryption",
    "LANGGRAPH_HTTP": f"{_IN_CONFIG}, under http",
    "LANGGRAPH_STORE": "unset it: this version has no vector search and no expiry of store items",
    "LANGGRAPH_CHECKPOINTER": "unset it: this version has no expiry of threads and no custom checkpointers",
    "LANGGRAPH_THREAD_TTL": "unset it: threads do not expire in this version",
    "LANGGRAPH_WEBHOOKS": "unset it: this version sends no webhooks",
    "LANGGRAPH_UI": "unset it: this version serves no generative UI",
    "LANGGRAPH_UI_CONFIG": "unset it: this version serves no generative UI",
    "CRON_SCHEDULER_SLEEP_TIME": "unset it: this version has no crons",
    "LSD_PROTOCOL_V2_BUFFER_SIZE": "unset it: this version has no streaming v2",
}
_SWITCHED_OFF = {"FF_CRONS_ENABLED": "crons", "FF_V2_EVENT_STREAMING": "streaming v2"}
_FALSE = frozenset({"0", "false", "no", "off", "f", "n"})


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


class LogLevel(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


def _comma_list(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    return (
        {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(value.upper(), value.upper()) if isinstance(value, str) else value
    )


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


_List = Annotated[tuple[str, ...], BeforeValidator(_comma_list)]


class Settings(BaseModel):
    """What the environment says. Field aliases are the names of the variables."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, populate_by_name=True, extra="forbid")

    database: Dsn | None = Field(
        None,
        alias="DATABASE_URL",
        description="The PostgreSQL database (15 to 18), in any spelling: postgres://, postgresql://, "
        "postgresql+asyncpg://, unix sockets. Unset: an embedded PostgreSQL in the data folder. "
        "Aliases: DATABASE_URI, POSTGRES_URI; two that differ are an error.",
        examples=["postgresql://user:password@localhost:5432/heddle"],
    )
    data_dir: Path = Field(
        Path(environment.DEFAULT_DATA_DIR),
        alias="HEDDLE_DATA_DIR",
        description="Where all data lives (pg/, projects/, objects/, keys/), mode 0700. A relative path is relative "
        "to the project's folder. Alias: WORKDIR.",
    )
    host: str = Field("127.0.0.1", alias="HOST", description="The address to listen on.")
    port: int = Field(2024, alias="PORT", ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    environment: Annotated[Environment, BeforeValidator(_lower)] = Field(
        Environment.PRODUCTION,
        alias="ENVIRONMENT",
        description="`development` or `production`. `heddle dev` runs as development, which shows error details.",
    )
    log_level: Annotated[LogLevel, BeforeValidator(_upper)] = Field(
        LogLevel.INFO,
        alias="LOG_LEVEL",
        description="DEBUG, INFO, WARNING, ERROR or CRITICAL. DEBUG shows tracebacks of start errors.",
    )
    log_json: bool = Field(False, alias="LOG_JSON", description="One JSON object per log line.")
    cors_allow_origins: _List = Field(
        (),
        alias="CORS_ALLOW_ORIGINS",
        description="Web origins that may use this server from a browser, besides loopback and the hosted Studio; "
        "comma separated, `*` for all.",
        examples=["https://app.example.com"],
    )
    allowed_hosts: _List = Field(
        (),
        alias="ALLOWED_HOSTS",
        description="Names this server may be called by in the Host header, besides loopback; comma separated, "
        "`*` for all.",
        examples=["agents.example.com"],
    )
    max_body_bytes: int = Field(
        32 * _MIB,
        alias="MAX_BODY_BYTES",
        ge=1024,
        description="The largest request body; a larger one is answered with 413.",
    )
    jobs_per_worker: int = Field(
        100,
        alias="N_JOBS_PER_WORKER",
        ge=1,
        le=10_000,
        description="How many runs one process executes at a time.",
    )
    run_timeout_seconds: float = Field(
        86_400,
        alias="BG_JOB_TIMEOUT_SECS",
        gt=0,
        description="A run that takes longer ends with the status timeout.",
    )
    run_attempts: int = Field(
        3,
        alias="BG_JOB_MAX_RETRIES",
        ge=1,
        le=100,
        description="How often a run is attempted when processes die under it.",
    )
    isolated_loops: bool = Field(
        False,
        alias="BG_JOB_ISOLATED_LOOPS",
        description="Run graphs on an event loop of their own, so that a graph that blocks does not stop the API.",
    )
    shutdown_grace_seconds: float = Field(
        180,
        alias="BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS",
        ge=0,
        description="How long `heddle serve` lets runs finish when it is asked to stop (`heddle dev`: 3 seconds).",
    )
    resumable_stream_ttl_seconds: float = Field(
        120,
        alias="RESUMABLE_STREAM_TTL_SECONDS",
        ge=0,
        description="How long the events of a finished run can be replayed.",
    )
    pool_max_size: int = Field(
        10,
        alias="LANGGRAPH_POSTGRES_POOL_MAX_SIZE",
        ge=2,
        le=1000,
        description="Database connections of one process, at most.",
    )
    statement_cache: bool = Field(
        True,
        alias="DATABASE_STATEMENT_CACHE",
        description="Use prepared statements. Switch off behind a transaction pooler such as PgBouncer.",
    )
    lease_seconds: float = Field(
        30,
        alias="HEDDLE_LEASE_SECONDS",
        ge=3,
        le=3600,
        description="How long a process owns a run without renewing. A killed process's runs are taken over after it.",
    )
    poll_seconds: float = Field(
        5,
        alias="HEDDLE_POLL_SECONDS",
        gt=0,
        le=300,
        description="How often an idle process looks for runs even when no signal came.",
    )

    @classmethod
    def load(cls, config: ProjectConfig, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment over the project's `env`. Raises ConfigError, which names the variable."""
        merged = environment.merged(config, environ)
        _refuse_what_is_not_here(merged)
        values: dict[str, Any] = {
            name: merged[name]
            for name in (field.alias for field in cls.model_fields.values())
            if name is not None and merged.get(name)
        }
        values["DATABASE_URL"] = environment.database(merged)
        values["HEDDLE_DATA_DIR"] = environment.data_dir(config, merged)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"][:1])
            raise ConfigError(
                f"{name} is wrong: {first['msg'][:1].lower()}{first['msg'][1:]} (it is {first['input']!r})",
                fix="correct it, or unset it for its default; see: python -m heddle_server.settings",
            ) from None


def _refuse_what_is_not_here(environ: Mapping[str, str]) -> None:
    for name, fix in NOT_YET.items():
        if environ.get(name):
            raise ConfigError(f"{name} is set, and this version of Heddle does not have that", fix=fix)
    for name, feature in _SWITCHED_OFF.items():
        if environ.get(name) and environ[name].strip().lower() not in _FALSE:
            raise ConfigError(
                f"{name} is set, and this version of Heddle has no {feature}",
                fix="unset it, or set it to false",
            )


def env_example() -> str:
    """The text of `.env.example`."""
    lines = ["# Every setting with its default. Made by: python -m heddle_server.settings --env-example", ""]
    for field in Settings.model_fields.values():
        lines += [f"# {line}" for line in _wrapped(field.description or "")]
        shown = field.examples[0] if field.examples else _shown(field.default)
        lines += [f"# {field.alias}={shown}", ""]
    return "\n".join(lines)


def markdown() -> str:
    """The text of `docs/reference/settings.md`."""
    lines = [
        "# Settings",
        "",
        "Settings are environment variables. The `env` of `agent.json` (a file or a map) is read too; a variable",
        "that is really set wins. An empty one counts as unset. A wrong value is a start error that names it.",
        "This page is made by `python -m heddle_server.settings --markdown`.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for field in Settings.model_fields.values():
        default = _shown(field.default)
        lines.append(f"| `{field.alias}` | {f'`{default}`' if default else ''} | {field.description} |")
    lines += [
        "",
        "## Refused",
        "",
        "Other servers of this family know these; this version refuses to start with them instead of ignoring them.",
        "",
        "| variable | what to do |",
        "|---|---|",
        *(f"| `{name}` | {fix} |" for name, fix in NOT_YET.items()),
        *(
            f"| `{name}` | unset it or set it to false: this version has no {what} |"
            for name, what in _SWITCHED_OFF.items()
        ),
        "",
        "`LANGSMITH_*` and `OTEL_*` are read by the libraries that graphs use, not by Heddle.",
        "",
    ]
    return "\n".join(lines)


def _shown(default: Any) -> str:
    match default:
        case None | ():
            return ""
        case bool():
            return str(default).lower()
        case float() if default == int(default):
            return str(int(default))
    return str(default)


def _wrapped(text: str) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > 100:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _main() -> None:
    parser = argparse.ArgumentParser(description="Print the settings.")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--env-example", action="store_true", help="as an example .env file (the default)")
    kind.add_argument("--markdown", action="store_true", help="as the reference page")
    os.write(1, (markdown() if parser.parse_args().markdown else env_example()).encode())


if __name__ == "__main__":
    _main()
