"""A small application around the thread routes, with errors as the server answers them."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from heddle_core.domain.errors import BadRequest, Conflict, HeddleError, InvalidRequest, NotFound, Unavailable
from heddle_core.usecases.context import Ports
from heddle_server.http.routes import state, threads

_STATUS = {InvalidRequest: 422, BadRequest: 400, NotFound: 404, Conflict: 409, Unavailable: 503}


async def _said(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HeddleError)
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    return JSONResponse({"detail": error.message}, status)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return JSONResponse({"detail": f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"}, 422)


def thread_app(ports: Ports) -> FastAPI:
    app = FastAPI()
    app.state.ports = ports
    app.include_router(threads.router)
    app.include_router(state.router)
    app.add_exception_handler(HeddleError, _said)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app
