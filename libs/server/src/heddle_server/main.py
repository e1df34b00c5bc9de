"""The server as one ASGI application.

Its lifespan starts everything (`services.running`) and only then is the API built, so a request never meets a server
that is half there. `app.state.begin_drain()` stops it from taking new work, `await app.state.drain(seconds)` lets runs
finish for so long and gives the rest back to the queue; leaving the lifespan does both and closes the database.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import SimpleNamespace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heddle_server.config import Cors, HeaderRule, ProjectConfig
from heddle_server.http.app import build_api
from heddle_server.http.options import CorsRules, HeaderRules, HttpOptions
from heddle_server.services import Services, running
from heddle_server.settings import Environment, Settings

__all__ = ["create_app"]


class Server:
    """`create_app` makes it; one lifespan, once."""

    def __init__(self, settings: Settings, config: ProjectConfig) -> None:
        self._settings = settings
        self._config = config
        self._api: ASGIApp | None = None
        self.state = SimpleNamespace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._api is not None:
            await self._api(scope, receive, send)
        else:
            raise RuntimeError("the application was not started: run it with its lifespan on")

    async def _live(self, receive: Receive, send: Send) -> None:
        await _expect(receive, "lifespan.startup")
        async with AsyncExitStack() as stack:
            # A failed start is the caller's to explain: it is raised, not put into a message.
            services = await stack.enter_async_context(running(self._settings, self._config))
            self.state.begin_drain = services.worker.begin_drain
            self.state.drain = services.worker.drain
            self._api = build_api(services.ports, _options(self._settings, self._config, services))
            await send({"type": "lifespan.startup.complete"})
            await _expect(receive, "lifespan.shutdown")
        await send({"type": "lifespan.shutdown.complete"})


def create_app(settings: Settings, config: ProjectConfig) -> Server:
    """The application for these settings and this project. Building it touches nothing outside the process."""
    return Server(settings, config)


async def _expect(receive: Receive, kind: str) -> None:
    message: Message = await receive()
    if message["type"] != kind:
        raise RuntimeError(f"expected {kind}, got {message['type']}")


def _options(settings: Settings, config: ProjectConfig, services: Services) -> HttpOptions:
    cors = config.http.cors
    return HttpOptions(
        allow_origins=frozenset(settings.cors_allow_origins) | frozenset(cors.allow_origins if cors else ()),
        cors=_cors(cors) if cors else None,
        allow_hosts=frozenset(settings.allowed_hosts),
        production=settings.environment is Environment.PRODUCTION,
        max_body_bytes=settings.max_body_bytes,
        configurable_headers=_headers(config.http.configurable_headers),
        readiness=services.readiness,
        figures=services.figures,
    )


def _cors(cors: Cors) -> CorsRules:
    return CorsRules(
        allow_origins=tuple(cors.allow_origins),
        allow_methods=tuple(cors.allow_methods),
        allow_headers=tuple(cors.allow_headers),
        allow_credentials=cors.allow_credentials,
        allow_origin_regex=cors.allow_origin_regex,
        expose_headers=tuple(cors.expose_headers),
        max_age=cors.max_age,
    )


def _headers(rule: HeaderRule) -> HeaderRules:
    return HeaderRules(includes=tuple(rule.includes), excludes=tuple(rule.excludes))
