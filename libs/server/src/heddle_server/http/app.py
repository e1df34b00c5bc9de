"""The API as one ASGI application: routes inside, guard, cross-origin headers and the request log around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from heddle_core.usecases.context import Ports
from heddle_server.http import errors
from heddle_server.http.body import JsonRoute
from heddle_server.http.dispatch import RouteTable
from heddle_server.http.metrics import RequestMetrics
from heddle_server.http.middleware.cors import Cors
from heddle_server.http.middleware.guard import Guard
from heddle_server.http.middleware.observe import Observe
from heddle_server.http.openapi import Schema, describe, operation_id, with_common_errors
from heddle_server.http.options import CorsRules, HttpOptions
from heddle_server.http.routes import assistants, runs, state, stateless, store, system, threads
from heddle_server.http.routes.system import API_LEVEL
from heddle_server.http.streams.live import Heartbeat

ROUTERS = tuple(part.router for part in (system, runs, stateless, assistants, threads, state, store))


def build_api(ports: Ports, options: HttpOptions) -> ASGIApp:
    """The server's HTTP side. It starts nothing of its own; `options.lifespan` is entered with the application."""
    routes = [_adopt(route) for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    api = _Api(routes, options)
    api.state.ports = ports
    api.state.options = options
    api.state.heartbeat = Heartbeat(options.heartbeat_seconds)
    errors.install(api, production=options.production)
    app = _with_cors(api, options.cors)
    if not options.authenticated:
        app = Guard(
            app,
            allow_hosts=options.allow_hosts,
            allow_origins=options.allow_origins,
            origin_pattern=options.cors.allow_origin_regex if options.cors else None,
        )
    return Observe(app, RequestMetrics(options.metrics))


def _with_cors(app: ASGIApp, rules: CorsRules | None) -> ASGIApp:
    """Our policy, or the one of the project file, which then holds alone."""
    if rules is None:
        return Cors(app)
    return CORSMiddleware(
        app,
        allow_origins=rules.allow_origins,
        allow_methods=rules.allow_methods,
        allow_headers=rules.allow_headers,
        allow_credentials=rules.allow_credentials,
        allow_origin_regex=rules.allow_origin_regex,
        expose_headers=rules.expose_headers,
        max_age=rules.max_age,
        allow_private_network=True,
    )


class _Api(FastAPI):
    """FastAPI with our route table in the place of its list, and our description in the place of its own."""

    def __init__(self, routes: Sequence[APIRoute], options: HttpOptions) -> None:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            async with options.lifespan():
                yield

        table = RouteTable(routes, mount_prefix=options.mount_prefix)
        super().__init__(title="Heddle", routes=[table], openapi_url=None, redirect_slashes=False, lifespan=lifespan)
        self._described = routes
        self._described_graphs: tuple[str, ...] = ()
        self._mount_prefix = options.mount_prefix

    def openapi(self) -> Schema:
        graphs = tuple(sorted(self.state.ports.catalog.graphs))
        if self.openapi_schema is None or graphs != self._described_graphs:
            self._described_graphs = graphs
            self.openapi_schema = describe(
                self._described, version=API_LEVEL, mount_prefix=self._mount_prefix, graphs=graphs
            )
        return self.openapi_schema


def _adopt(route: APIRoute) -> JsonRoute:
    """The same route with our body handling, every error described, and its function's name as operation id."""
    return JsonRoute(
        route.path,
        route.endpoint,
        methods=route.methods,
        status_code=route.status_code,
        tags=route.tags,
        dependencies=route.dependencies,
        summary=route.summary,
        description=route.description,
        response_description=route.response_description,
        responses=with_common_errors(route),
        deprecated=route.deprecated,
        operation_id=route.operation_id or operation_id(route),
        include_in_schema=route.include_in_schema,
        response_model=None,
        response_class=route.response_class,
        name=route.name,
        openapi_extra=route.openapi_extra,
        strict_content_type=False,
    )
