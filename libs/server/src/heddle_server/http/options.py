"""What the HTTP floor is told by whoever builds it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from prometheus_client import CollectorRegistry

from heddle_core.domain.json import JsonObject

MIB = 1024 * 1024
HOSTED_STUDIO = "https://smith.langchain.com"
TRACING_HEADERS = ("langsmith-trace", "baggage")


class Health(StrEnum):
    UP = "up"
    DEGRADED = "degraded"  # serves, with less: still 200
    DRAINING = "draining"  # stopping: no new requests, please
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether the process should get requests. `problems` names each part that is not well, and says why."""

    health: Health
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        return self.health in (Health.UP, Health.DEGRADED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The queue and the slots of this process at one moment, for `/metrics`."""

    pending_runs: int = 0
    running_runs: int = 0
    longest_wait_seconds: float = 0.0
    slots: int = 0
    slots_taken: int = 0


@dataclass(frozen=True, kw_only=True)
class HeaderRules:
    """Which request headers go into `config.configurable` of runs (`http.configurable_headers`).

    Names are patterns with `*`, in lower case; an exclude wins. Without rules only the tracing headers pass.
    """

    includes: tuple[str, ...] = TRACING_HEADERS
    excludes: tuple[str, ...] = ()

    @cached_property
    def _includes(self) -> re.Pattern[str]:
        return _any_of(self.includes)

    @cached_property
    def _excludes(self) -> re.Pattern[str]:
        return _any_of(self.excludes)

    def pick(self, headers: Iterable[tuple[bytes, bytes]]) -> JsonObject:
        picked: JsonObject = {}
        for raw_name, value in headers:
            name = raw_name.decode("latin-1")
            if self._includes.fullmatch(name) and not self._excludes.fullmatch(name):
                picked[name] = value.decode("latin-1")
        return picked


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    if not patterns:
        return re.compile(r"(?!)")
    return re.compile("|".join(re.escape(p.lower()).replace(r"\*", ".*") for p in patterns))


@dataclass(frozen=True, kw_only=True)
class CorsRules:
    """`http.cors` of the project file: replaces the default policy for browsers as a whole (server-api 18)."""

    allow_origins: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ("GET",)
    allow_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    allow_origin_regex: str | None = None
    expose_headers: tuple[str, ...] = ()
    max_age: int = 600


async def _always_ready() -> Readiness:
    return Readiness(health=Health.UP)


async def _no_figures() -> Figures:
    return Figures()


@asynccontextmanager
async def _nothing_to_start() -> AsyncIterator[None]:
    yield


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """How the API behaves at its edge.

    `authenticated`: an auth handler guards the API, so any origin and host may call. Otherwise `Origin` must be
    loopback, the hosted Studio or in `allow_origins`, and `Host` loopback or in `allow_hosts`; `*` stands for all.
    `production` keeps the text of unexpected errors off the wire. `mount_prefix` is the path under which a proxy
    shows this server: it is taken off requests and put before the paths in `Location` headers.
    """

    allow_origins: frozenset[str] = frozenset()
    allow_hosts: frozenset[str] = frozenset()
    cors: CorsRules | None = None
    authenticated: bool = False
    production: bool = True
    max_body_bytes: int = 32 * MIB
    mount_prefix: str = ""
    configurable_headers: HeaderRules = field(default_factory=HeaderRules)
    heartbeat_seconds: float = 5.0
    readiness: Callable[[], Awaitable[Readiness]] = _always_ready
    figures: Callable[[], Awaitable[Figures]] = _no_figures
    info: Callable[[], JsonObject] = dict
    metrics: CollectorRegistry = field(default_factory=lambda: CollectorRegistry(auto_describe=True))
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = _nothing_to_start

    def __post_init__(self) -> None:
        prefix = self.mount_prefix
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise ValueError(f"mount prefix {prefix!r}: must start with / and not end with it")
