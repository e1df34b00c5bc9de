"""What each error is on the wire: always `{"detail": text}`, and a text that names the field at fault."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from heddle_core.domain import errors
from heddle_core.domain.json import Json
from heddle_server.http.answers import json_answer

log = logging.getLogger(__name__)

STATUS: Mapping[type[errors.HeddleError], int] = {
    errors.InvalidRequest: 422,
    errors.BadRequest: 400,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unavailable: 503,
    errors.GraphLoadError: 500,
    errors.GraphFailed: 500,
    errors.LeaseLost: 503,
}

_NAMES = {400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 413: "Request body is too large"}

_PLAIN_WORDS = {
    "missing": "field required",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
}


def status_of(error: errors.HeddleError) -> int:
    for cls in type(error).__mro__:
        if (status := STATUS.get(cls)) is not None:
            return status
    return 500


def install(api: FastAPI, *, production: bool) -> None:
    """Answer every error of this server, of the framework and of nobody in particular in one shape."""

    async def said(_: Request, error: Exception) -> Response:
        assert isinstance(error, errors.HeddleError)
        status = status_of(error)
        if status >= 500 and status != 503:
            log.error("request_failed", exc_info=error)
        headers = {"retry-after": "1"} if status == 503 else None
        return json_answer({"detail": error.message}, status=status, headers=headers)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return json_answer(problem_of(error.errors(), error.body), status=422)

    async def framework(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = _NAMES.get(error.status_code) or str(error.detail)
        return json_answer({"detail": detail}, status=error.status_code, headers=error.headers)

    async def unexpected(_: Request, error: Exception) -> Response:
        text = "Internal Server Error" if production else f"Internal Server Error: {type(error).__name__}: {error}"
        return json_answer({"detail": text}, status=500)

    async def left(_: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it; the number is for our own log

    api.add_exception_handler(errors.HeddleError, said)
    api.add_exception_handler(ClientDisconnect, left)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, framework)
    api.add_exception_handler(Exception, unexpected)


def problem_of(found: Sequence[Mapping[str, Any]], body: Json) -> dict[str, Any]:
    """`detail` is the first problem; `errors` lists all when there are several.

    A union reports one problem per member; the ones that got deepest into the value say most, so they go first.
    """
    told = [{"field": _field(problem, body), "problem": _words(problem)} for problem in found]
    told.sort(key=_depth, reverse=True)
    if not told:
        return {"detail": "the request is not valid"}
    answer: dict[str, Any] = {"detail": f"{told[0]['field']}: {told[0]['problem']}"}
    if len(told) > 1:
        answer["errors"] = told
    return answer


def _depth(problem: Mapping[str, str]) -> int:
    return problem["field"].count(".") + problem["field"].count("[")


def _words(problem: Mapping[str, Any]) -> str:
    if (words := _PLAIN_WORDS.get(problem["type"])) is not None:
        return words
    text = str(problem["msg"])
    if text.startswith("Input should be "):
        return text.replace("Input should be", "must be", 1)
    return text.removeprefix("Value error, ")


def _field(problem: Mapping[str, Any], body: Json) -> str:
    """`body.config.tags[0]`. Pydantic puts the names of union members into its paths; the body tells them apart."""
    location: Sequence[Any] = problem["loc"]
    if location[0] != "body":
        return ".".join(map(str, location))
    path, here = "body", body
    for place, part in enumerate(location[1:], start=2):
        if isinstance(here, list) and isinstance(part, int) and part < len(here):
            path, here = f"{path}[{part}]", here[part]
        elif isinstance(here, dict) and part in here:
            path, here = f"{path}.{part}", here[part]
        elif place == len(location) and problem["type"] == "missing":
            path = f"{path}.{part}"
    return path
