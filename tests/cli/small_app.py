"""A server application of a few lines, to test the command line around any application."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from heddle_server.config import ConfigError, ProjectConfig
from heddle_server.settings import Settings


def create_app(settings: Settings, config: ProjectConfig) -> Starlette:
    """Answers with what it was started with; drains like the real one: open streams end when it is told to."""
    draining = asyncio.Event()
    over = asyncio.Event()
    idle = asyncio.Event()
    idle.set()

    async def drain(seconds: float) -> None:
        """Wait for runs, which never finish here, and give them back when the time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(idle.wait(), seconds)
        over.set()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.begin_drain = draining.set
        app.state.drain = drain
        assert settings.database is not None
        connection = await asyncpg.connect(**settings.database.asyncpg_kwargs())
        app.state.database = await connection.fetchval("select current_database()")
        await connection.close()
        app.state.words = {entry.graph_id: _load(entry.path, entry.variable) for entry in config.graphs.values()}
        yield
        if mark := os.environ.get("SMALL_APP_MARK"):
            Path(mark).write_text("stopped in order")

    async def about(request: Request) -> Response:
        return JSONResponse(
            {
                "pid": os.getpid(),
                "database": request.app.state.database,
                "words": request.app.state.words,
                "data_dir": os.environ["HEDDLE_DATA_DIR"],
                "environment": settings.environment,
                "grace": settings.shutdown_grace_seconds,
            }
        )

    async def stream(_: Request) -> Response:
        async def words() -> AsyncIterator[str]:
            yield "begun\n"
            await draining.wait()
            yield "drained\n"

        return StreamingResponse(words())

    async def run(_: Request) -> Response:
        async def words() -> AsyncIterator[str]:
            idle.clear()
            yield "begun\n"
            await over.wait()
            yield "given back\n"

        return StreamingResponse(words())

    async def hang(_: Request) -> Response:
        async def nothing() -> AsyncIterator[str]:
            yield "begun\n"
            await asyncio.Event().wait()

        return StreamingResponse(nothing())

    routes = [Route("/about", about), Route("/stream", stream), Route("/run", run), Route("/hang", hang)]
    return Starlette(routes=routes, lifespan=lifespan)


def _load(path: Path | None, variable: str) -> str:
    assert path is not None
    spec = importlib.util.spec_from_file_location("graph_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"graph {path} does not import: {error!r}", fix=f"correct {path}") from error
    return str(getattr(module, variable))
