"""Finding the route of a request: one look into a table instead of a walk along all patterns.

Paths are accepted with and without a trailing slash, and with and without the mount prefix. A path that exists under
other methods is 405 and says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi.routing import APIRoute
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from heddle_core.domain.errors import InvalidRequest


@dataclass(slots=True)
class _Node:
    """One place in the tree of path segments."""

    routes: dict[str, APIRoute] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    literal: dict[str, _Node] = field(default_factory=dict)
    variable: _Node | None = None
    rest: _Node | None = None  # `{name:path}`: everything that follows


class RouteTable(BaseRoute):
    """All routes of the API as one route. A literal segment wins over a variable one."""

    def __init__(self, routes: Sequence[APIRoute], *, mount_prefix: str = "") -> None:
        self._root = _Node()
        self._prefix = mount_prefix
        for route in routes:
            self._add(route)

    def _add(self, route: APIRoute) -> None:
        node = self._root
        names: list[str] = []
        for segment in _segments(route.path):
            if segment.startswith("{"):
                name, _, kind = segment.strip("{}").partition(":")
                names.append(name)
                if kind == "path":
                    node.rest = node.rest or _Node()
                    node = node.rest
                else:
                    node.variable = node.variable or _Node()
                    node = node.variable
            else:
                node = node.literal.setdefault(segment, _Node())
        for method in route.methods or ():
            node.routes.setdefault(method, route)
            node.names.setdefault(method, tuple(names))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        path = get_route_path(scope)
        if self._prefix and (path == self._prefix or path.startswith(f"{self._prefix}/")):
            path = path[len(self._prefix) :]
        found = _find(self._root, _segments(path), 0, ())
        if found is None:
            return Match.NONE, {}
        node, values = found
        route = node.routes.get(scope["method"])
        if route is None:
            return Match.PARTIAL, {"heddle.allowed": sorted(node.routes)}
        if "\x00" in path or b"%00" in scope["query_string"]:
            raise InvalidRequest("NUL characters are not allowed in a path or a query")
        params = dict(zip(node.names[scope["method"]], values, strict=True))
        return Match.FULL, {"endpoint": route.endpoint, "path_params": params, "route": route}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = scope.get("heddle.allowed")
        if allowed is not None:
            raise HTTPException(405, headers={"allow": ", ".join(allowed)})
        route: APIRoute = scope["route"]
        await route.app(scope, receive, send)


def _segments(path: str) -> list[str]:
    return path.strip("/").split("/") if path.strip("/") else []


def _find(node: _Node, segments: list[str], at: int, values: tuple[str, ...]) -> tuple[_Node, tuple[str, ...]] | None:
    if at == len(segments):
        return (node, values) if node.routes else None
    segment = segments[at]
    if (literal := node.literal.get(segment)) is not None and (found := _find(literal, segments, at + 1, values)):
        return found
    if node.variable is not None and segment:
        found = _find(node.variable, segments, at + 1, (*values, segment))
        if found:
            return found
    if node.rest is not None and node.rest.routes:
        return node.rest, (*values, "/".join(segments[at:]))
    return None
