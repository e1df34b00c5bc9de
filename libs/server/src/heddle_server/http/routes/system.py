"""Health, metrics, documentation: what operators and tools ask (server-api section 11)."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from heddle_core.domain.errors import NotFound, Unavailable
from heddle_server.http.answers import json_answer
from heddle_server.http.caller import Who
from heddle_server.http.deps import App
from heddle_server.http.metrics import as_json, as_text
from heddle_server.http.middleware.guard import is_loopback
from heddle_server.http.openapi import errors
from heddle_server.http.options import Figures, HttpOptions, Readiness
from heddle_server.http.schemas.answers import InfoAnswer, OkAnswer, ReadinessAnswer

router = APIRouter(tags=["system"])

API_LEVEL = "0.16.7"
"""The LangGraph Server API that is implemented: Studio and SDKs compare it to know what they may ask."""

FLAGS = {
    "assistants": True,
    "crons": False,
    "webhooks": False,
    "ttl": False,
    "store_index": False,
    "event_streaming": False,
    "mcp": False,
    "a2a": False,
    "langsmith": False,
    "langsmith_tracing_replicas": False,
}

_OK: dict[int | str, dict[str, Any]] = {200: {"model": OkAnswer, "description": "The server answers."}}
_READY: dict[int | str, dict[str, Any]] = {
    200: {"model": ReadinessAnswer, "description": "Ready, perhaps with less than everything."},
    503: {"model": ReadinessAnswer, "description": "Not ready; `checks` names what is not well."},
}

CheckDb = Annotated[bool, Query(description="Also ask the database.")]


@router.get("/ok", responses={**_OK, **errors(503)})
async def ok(app: App, check_db: CheckDb = False) -> Response:
    """Does the server answer?"""
    if check_db:
        await app.storage.check()
    return json_answer({"ok": True})


@router.get("/", responses={**_OK, **errors(503)})
async def root(app: App, check_db: CheckDb = False) -> Response:
    """Does the server answer?"""
    if check_db:
        await app.storage.check()
    return json_answer({"ok": True})


@router.get("/live", responses=_OK)
async def live() -> Response:
    """The process answers; nothing else is touched."""
    return json_answer({"ok": True})


@router.get("/healthz", responses=_OK)
async def healthz() -> Response:
    """The process answers; nothing else is touched."""
    return json_answer({"ok": True})


@router.get("/ready", responses=_READY)
async def ready(request: Request, who: Who) -> Response:
    """May this process be sent requests?"""
    return _readiness(request, await who.options.readiness())


@router.get("/readyz", responses=_READY)
async def readyz(request: Request, who: Who) -> Response:
    """May this process be sent requests?"""
    return _readiness(request, await who.options.readiness())


@router.get("/health", responses=_READY)
async def health(request: Request, who: Who) -> Response:
    """May this process be sent requests?"""
    return _readiness(request, await who.options.readiness())


def _readiness(request: Request, found: Readiness) -> Response:
    local = _asks_from_here(request)
    checks = {name: (reason if local else "not well") for name, reason in found.problems.items()}
    return json_answer({"status": found.health, "checks": checks}, status=200 if found.is_ready else 503)


def _asks_from_here(request: Request) -> bool:
    """On this machine, and not through a proxy on it that speaks for somebody else."""
    forwarded = "forwarded" in request.headers or "x-forwarded-for" in request.headers
    return not forwarded and request.client is not None and is_loopback(request.client.host)


@router.get("/info", responses={200: {"model": InfoAnswer, "description": "What this server is and does."}})
async def info(who: Who) -> Response:
    """Version, what is on and what is off."""
    return json_answer(_info(who.options))


def _info(options: HttpOptions) -> dict[str, Any]:
    more = options.info()
    return {
        "version": API_LEVEL,
        "heddle_version": _version("heddle-server"),
        "langgraph_py_version": _version("langgraph"),
        "host": {
            "kind": "self-hosted",
            "project_id": None,
            "host_revision_id": None,
            "revision_id": None,
            "tenant_id": None,
        },
        **more,
        "flags": {**FLAGS, **more.get("flags", {})},
    }


@lru_cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "0"


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus text, or JSON on request.",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "object"}},
            },
        }
    },
)
async def metrics(
    who: Who, form: Annotated[Literal["prometheus", "json"], Query(alias="format")] = "prometheus"
) -> Response:
    """Counters and gauges. What cannot be had now (the queue, when the database is away) is left out."""
    figures: Figures | None
    try:
        figures = await who.options.figures()
    except Unavailable:
        figures = None
    if form == "json":
        return json_answer(as_json(who.options.metrics, figures))
    text = as_text(who.options.metrics, figures)
    return Response(text, headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})


@router.get("/openapi.json", include_in_schema=False)
async def openapi_json(request: Request) -> Response:
    return json_answer(request.app.openapi())


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The API for people. Its files come from this server, so it works without a network."""
    return Response(_PAGE, media_type="text/html")


@router.get("/docs/{name}", include_in_schema=False)
async def docs_file(name: Annotated[str, Path()]) -> Response:
    kind = _ASSETS.get(name)
    if kind is None:
        raise NotFound
    return Response(await asyncio.to_thread(_asset, name), media_type=kind, headers={"cache-control": "max-age=86400"})


_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}


def _asset(name: str) -> bytes:
    vendor = files("swagger_ui_bundle") / "vendor"
    folder = next(entry for entry in vendor.iterdir() if entry.name.startswith("swagger-ui"))
    return (folder / name).read_bytes()


# The bundled viewer knows OpenAPI up to 3.0 and refuses a document that says 3.1, though it draws one well.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><title>Heddle API</title>
<link rel="stylesheet" href="docs/swagger-ui.css"><link rel="icon" href="docs/favicon-32x32.png">
</head>
<body>
<div id="api"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>
const base = location.pathname.replace(/\\/docs\\/?$/, "");
if (location.pathname.endsWith("/")) location.replace(base + "/docs" + location.hash);
fetch(base + "/openapi.json").then(answer => answer.json()).then(spec => {
  spec.openapi = "3.0.3";
  if (base && !spec.servers) spec.servers = [{url: base}];
  SwaggerUIBundle({spec, dom_id: "#api", deepLinking: true});
});
</script>
</body>
</html>
"""
