"""JSON text of whatever a graph says, made once and never failing.

Two roads. The fast one hands the value to orjson, which asks `_known` about the types it does not know. When orjson
refuses (a lone surrogate, an integer beyond 64 bits, a key that is not a string, a cycle), `_plain` walks the value
and makes it encodable. A NUL is shown as U+FFFD, since Postgres keeps none in JSON; so is a lone surrogate.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

import orjson
from langchain_core.messages import BaseMessage
from langgraph.types import Send
from pydantic import BaseModel

from heddle_core.domain.json import Encoded

_MAX_DEPTH = 100
_ESCAPED_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_FIELDS: dict[type[BaseMessage], frozenset[str]] = {}


def encode(value: Any) -> Encoded:
    """JSON text of any value. What has no JSON form is shown by its text; nothing raises."""
    try:
        text = orjson.dumps(value, _known)
    except (TypeError, ValueError, RecursionError):
        text = orjson.dumps(_plain(value, 0, set()))
    return Encoded(_without_nul(text) if b"\\u0000" in text else text)


def fragment(text: bytes) -> orjson.Fragment:
    """JSON text as a value inside something that is still to be encoded."""
    return orjson.Fragment(text)


def message_fields(message: BaseMessage) -> dict[str, Any]:
    """The message as a plain dict (server-api 2.6); not a copy, so do not change it."""
    kind = type(message)
    names = _FIELDS.get(kind)
    if names is None:
        names = _FIELDS[kind] = frozenset(kind.model_fields)
    found = message.__dict__
    if len(found) != len(names):  # cached properties live there too
        found = {name: value for name, value in found.items() if name in names}
    extra = message.__pydantic_extra__
    return {**found, **extra} if extra else found


def _known(value: Any) -> Any:
    """One step towards JSON for a type that orjson does not know."""
    if isinstance(value, BaseMessage):
        return message_fields(value)
    if isinstance(value, BaseModel):
        return _dump(value)
    if isinstance(value, BaseException):
        return {"error": type(value).__name__, "message": _text(value)}
    if isinstance(value, (AbstractSet, deque)):
        return list(value)
    if isinstance(value, tuple):  # orjson takes plain tuples only
        return value._asdict() if hasattr(value, "_asdict") else list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bytes_text(bytes(value))
    if isinstance(value, Send):
        return {"node": value.node, "input": value.arg}
    if isinstance(value, timedelta):
        return value.total_seconds()
    return _text(value)


def _dump(model: BaseModel) -> Any:
    try:
        return model.model_dump(serialize_as_any=True, warnings=False)
    except Exception:  # a model's own serializers are foreign code
        return {name: getattr(model, name, None) for name in type(model).model_fields}


def text_of(value: object) -> str:
    """The value's own text, as JSON and Postgres can keep it; never fails."""
    return _clean(_text(value)).replace("\0", "\ufffd")


def _text(value: object) -> str:
    for describe in (str, repr):
        with suppress(Exception):  # foreign code: `__str__` may raise anything
            return describe(value)
    return f"<{type(value).__name__}>"


def _bytes_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _plain(value: Any, depth: int, path: set[int]) -> Any:
    """The value in types that orjson is sure to take. Bounded in depth, and a cycle is cut where it closes."""
    leaf = _LEAVES.get(type(value))
    if leaf is not None:
        return leaf(value)
    if isinstance(value, (orjson.Fragment, UUID, datetime, date, time)):
        return value
    if depth >= _MAX_DEPTH or id(value) in path:
        return "..." if depth >= _MAX_DEPTH else "<cycle>"
    path.add(id(value))
    try:
        if isinstance(value, Mapping):
            return {_key(k): _plain(v, depth + 1, path) for k, v in list(value.items())}
        if type(value) in (list, tuple):
            return [_plain(item, depth + 1, path) for item in value]
        return _plain(_step(value), depth + 1, path)
    finally:
        path.discard(id(value))


def _step(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name, None) for f in fields(value) if not f.name.startswith("_")}
    match value:  # subclasses of what JSON knows
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case list():
            return list(value)
    return _known(value)


def _key(key: Any) -> str:
    if isinstance(key, Enum):
        key = key.value
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return _clean(key if isinstance(key, str) else _text(key))


def _clean(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        # A pair of surrogates is one character that was cut in two; only a lone one is lost.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _integer(value: int) -> Any:
    if -(2**63) <= value < 2**64:
        return value
    try:
        return orjson.Fragment(str(value))
    except ValueError:  # the interpreter bounds how long a number it writes in decimal
        return hex(value)


_LEAVES: dict[type, Callable[[Any], Any]] = {
    str: _clean,
    int: _integer,
    bool: lambda value: value,
    float: lambda value: value,
    type(None): lambda value: value,
}


def _without_nul(text: bytes) -> bytes:
    return _ESCAPED_NUL.sub(rb"\1" + rb"\\ufffd", text)
