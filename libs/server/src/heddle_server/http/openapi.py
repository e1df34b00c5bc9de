"""The API description: the framework's, made true and easy on code generators.

Every error status has the one error schema, unions have names, and nothing is described that does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from heddle_server.http.schemas.answers import Error
from heddle_server.http.schemas.runs import ASSISTANT_REF

Schema = dict[str, Any]

_MEANINGS = {
    400: "Well-formed, but it makes no sense here.",
    403: "Pages of this origin may not call this server.",
    404: "No such resource.",
    409: "It exists already, or it is in use.",
    413: "The body is too large.",
    421: "This server does not answer for this host.",
    422: "A field, a parameter or an id has the wrong shape or value.",
    500: "Something unexpected; the log says what.",
    503: "The server cannot do this now; try again.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its `responses`."""
    return {status: {"model": Error, "description": _MEANINGS[status]} for status in statuses}


def answers(model: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: 200 with this model (None: 204 without a body), and these errors."""
    return {**({} if model is None else {200: {"model": model}}), **errors(*statuses)}


def with_common_errors(route: APIRoute) -> dict[int | str, dict[str, Any]]:
    """A route's responses and the errors that any route may answer."""
    statuses = [403, 421, 422, 500, 503]
    if route.body_field is not None:
        statuses.append(413)
    return {**errors(*sorted(statuses)), **route.responses}


def describe(routes: Sequence[APIRoute], *, version: str, mount_prefix: str, graphs: Sequence[str]) -> Schema:
    document = get_openapi(
        title="Heddle",
        version=version,
        summary="An agent server: LangGraph graphs over the Agent Protocol, durable in Postgres.",
        routes=routes,
        servers=[{"url": mount_prefix}] if mount_prefix else None,
        separate_input_output_schemas=False,
    )
    schemas: dict[str, Schema] = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["AssistantRef"] = _assistant_ref(graphs)
    for name, schema in list(schemas.items()):
        for field, part in schema.get("properties", {}).items():
            if part.get("format") == ASSISTANT_REF:
                schema["properties"][field] = {"$ref": "#/components/schemas/AssistantRef"}
            else:
                schema["properties"][field] = _named(part, name + _camel(field), schemas)
    for operation in _operations(document):
        stem = _camel(operation["operationId"])
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _named(_present(parameter["schema"]), stem + _camel(parameter["name"]), schemas)
        for content in operation.get("requestBody", {}).get("content", {}).values():
            _allow_nulls(content["schema"], schemas, set())
    return document


def _assistant_ref(graphs: Sequence[str]) -> Schema:
    members: list[Schema] = [{"type": "string", "format": "uuid"}]
    if graphs:
        members.append({"type": "string", "enum": list(graphs)})
    return {"title": "AssistantRef", "description": "An assistant id, or the name of a graph.", "anyOf": members}


def _present(schema: Schema) -> Schema:
    """A parameter is there or not; it cannot be null."""
    members = [member for member in schema.get("anyOf", ()) if member.get("type") != "null"]
    if len(members) != 1:
        return {**schema, "anyOf": members} if members else schema
    return {**members[0], **{key: value for key, value in schema.items() if key != "anyOf"}}


def _allow_nulls(schema: Schema, schemas: dict[str, Schema], seen: set[str]) -> None:
    """In bodies null counts as absent, so every field that may be left out may be null."""
    reference = schema.get("$ref", "").rpartition("/")[2]
    if reference:
        if reference not in seen:
            seen.add(reference)
            _allow_nulls(schemas[reference], schemas, seen)
        return
    for part in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        _allow_nulls(part, schemas, seen)
    required = schema.get("required", ())
    for name, part in schema.get("properties", {}).items():
        _allow_nulls(part, schemas, seen)
        if name not in required:
            schema["properties"][name] = _or_null(part)


def _or_null(schema: Schema) -> Schema:
    members = schema.get("anyOf")
    if members is not None:
        return schema if {"type": "null"} in members else {**schema, "anyOf": [*members, {"type": "null"}]}
    if "type" not in schema and "$ref" not in schema:
        return schema  # anything at all
    told: Schema = {key: schema[key] for key in ("title", "description", "default", "deprecated") if key in schema}
    rest = {key: value for key, value in schema.items() if key not in told}
    return {**told, "anyOf": [rest, {"type": "null"}]}


def _operations(document: Schema) -> Iterator[Schema]:
    for path in document.get("paths", {}).values():
        for operation in path.values():
            if isinstance(operation, dict) and "operationId" in operation:
                yield operation


def _named(schema: Schema, name: str, schemas: dict[str, Schema]) -> Schema:
    """The schema with a union of its own moved to a named component. `X or null` is no union: it stays."""
    members = schema.get("anyOf")
    if members is None:
        return schema
    real = [member for member in members if member.get("type") != "null"]
    if len(real) < 2:
        return schema
    schemas[name] = {"title": name, "anyOf": real}
    reference: Schema = {"$ref": f"#/components/schemas/{name}"}
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "title")}
    if len(real) < len(members):
        return {**rest, "anyOf": [reference, {"type": "null"}]}
    return {**rest, **reference}


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.replace("-", "_").split("_"))


def operation_id(route: APIRoute) -> str:
    """The function's name: unique, short, and what generated clients call their methods."""
    return route.name
