"""Request bodies: JSON whatever the content type says, strict in what it may hold, bounded while it is read.

What Postgres, msgpack or a client could not hold later is refused here, in words: NaN, integers beyond 64 bit, half
surrogate pairs, a key given twice, more than 200 levels. NUL is kept in the fields that are the graph's own
(`Body.nul_in`) and refused everywhere else.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn, get_args

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from heddle_core.domain.errors import InvalidRequest
from heddle_core.domain.json import Json
from heddle_server.http.schemas.wire import Body

MAX_LEVELS = 200
MALFORMED = "Invalid JSON in request body"

_LARGE = 256 * 1024
_LONG_NUMBER = re.compile(rb"\d\d{18}")  # 19 digits; written so, the search leaps to the next digit
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonRoute(APIRoute):
    """A route whose body, if it takes one, is read and parsed by this module."""

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()
        field = self.body_field
        if field is None:
            return handler
        required = bool(field.field_info.is_required())
        kept = _nul_kept(field.field_info.annotation)

        async def handle(request: Request) -> Response:
            raw = await _read(request, request.app.state.options.max_body_bytes)
            if not raw and not required:
                return await handler(request)
            value = parse(raw) if len(raw) < _LARGE else await asyncio.to_thread(parse, raw)
            if b"\\u0000" in raw:
                _refuse_nul(value, kept)
            return await handler(_ParsedRequest(request, raw, value))

        return handle


class _ParsedRequest(Request):
    """A request whose body has been read; to the framework it looks as if the client had called it JSON."""

    def __init__(self, request: Request, raw: bytes, value: Json) -> None:
        scope = request.scope
        if request.headers.get("content-type") != "application/json":
            headers = [h for h in scope["headers"] if h[0] != b"content-type"]
            scope = {**scope, "headers": [*headers, (b"content-type", b"application/json")]}
        super().__init__(scope, request.receive)
        self._body = raw
        self._json = value


async def _read(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise HTTPException(413)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise HTTPException(413)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse(raw: bytes) -> Json:
    """The value of a JSON text, or `InvalidRequest` that says what is wrong with it."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        _explain(raw, error)
    if raw.count(b"{") + raw.count(b"[") > MAX_LEVELS:
        _check_levels(raw)
    _strict(raw)
    return value


def _explain(raw: bytes, error: orjson.JSONDecodeError) -> NoReturn:
    """Say more than "malformed" where the other parser, or the first one's words, tell what it is."""
    try:
        _strict(raw)
    except RecursionError:
        raise InvalidRequest(f"{MALFORMED}: nested deeper than {MAX_LEVELS} levels") from None
    except ValueError:
        raise InvalidRequest(MALFORMED) from None
    told = str(error)
    if "surrogate" in told:
        raise InvalidRequest(f"{MALFORMED}: a string holds half of a surrogate pair") from None
    if "infinity" in told:
        raise InvalidRequest(f"{MALFORMED}: a number is too large") from None
    raise InvalidRequest(MALFORMED) from None


def _check_levels(raw: bytes) -> None:
    """This parser stops at 201 levels, in machine code, where a loop of ours would take long on a large body."""
    try:
        from_json(b"[%b]" % raw, cache_strings="keys")
    except ValueError as error:
        if "recursion" in str(error):
            raise InvalidRequest(f"{MALFORMED}: nested deeper than {MAX_LEVELS} levels") from None
        raise InvalidRequest(MALFORMED) from None


def _strict(raw: bytes) -> None:
    (_number_decoder if _LONG_NUMBER.search(raw) else _decoder).decode(raw.decode())


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"{MALFORMED}: the key {twice!r} is given twice")
    return seen


def _constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{MALFORMED}: {name} is not a JSON number")


def _bounded(text: str) -> int:
    if len(text) > 20 or not _SMALLEST <= (number := int(text)) <= _LARGEST:
        raise InvalidRequest(f"{MALFORMED}: the integer {text[:24]} does not fit into 64 bits")
    return number


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant)
_number_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_int=_bounded)


def _nul_kept(annotation: Any) -> frozenset[str]:
    """The fields of the body model, or of the models in a list of them, where NUL is data."""
    kept: frozenset[str] = frozenset()
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Body):
            kept |= candidate.nul_in
    return kept


def _refuse_nul(value: Json, kept: frozenset[str]) -> None:
    for path, text in _texts(value, "body", kept):
        if "\x00" in text:
            raise InvalidRequest("NUL characters are not allowed here", field=path.replace("\x00", "\\u0000"))


def _texts(value: Json, path: str, kept: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Every text in the value with its path: keys everywhere, values except under the fields in `kept`."""
    waiting: list[tuple[Json, str, bool]] = [(value, path, True)]
    while waiting:
        here, at, values_too = waiting.pop()
        if isinstance(here, str):
            if values_too:
                yield at, here
        elif isinstance(here, list):
            waiting.extend((item, f"{at}[{i}]", values_too) for i, item in enumerate(here))
        elif isinstance(here, dict):
            top = at == "body" or (at.startswith("body[") and at.endswith("]") and at.count("[") == 1)
            for key, item in here.items():
                yield f"{at}.{key}", key
                waiting.append((item, f"{at}.{key}", values_too and not (top and key in kept)))
