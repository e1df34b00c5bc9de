"""The store on the wire (server-api 10)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, model_validator

from heddle_core.domain.errors import NotInThisVersion
from heddle_core.domain.item import Item, Namespace
from heddle_core.domain.json import JsonObject
from heddle_core.ports.storage import NamespaceFilter
from heddle_server.http.answers import fragment
from heddle_server.http.schemas.wire import Body

_HIGHEST = 2**31 - 1

Limit = Annotated[int, Field(strict=True, ge=1, le=1000)]
Offset = Annotated[int, Field(strict=True, ge=0, le=_HIGHEST)]


class PutItem(Body):
    not_yet: ClassVar[frozenset[str]] = frozenset({"index", "ttl"})

    namespace: list[str]
    key: str
    value: dict[str, Any]


class DeleteItem(Body):
    namespace: list[str]
    key: str


class SearchItems(Body):
    """`query` is for a store with a vector index; without one it changes nothing."""

    namespace_prefix: list[str] = Field(default_factory=list)
    filter: dict[str, Any] = Field(default_factory=dict)
    limit: Limit = 10
    offset: Offset = 0
    query: str | None = None
    refresh_ttl: Annotated[bool, Field(strict=True)] | None = None

    @model_validator(mode="after")
    def _without_ttl(self) -> SearchItems:
        refuse_refresh(self.refresh_ttl, "body.refresh_ttl")
        return self


class ListNamespaces(Body):
    """`*` in `prefix` or `suffix` stands for any one label."""

    prefix: list[str] = Field(default_factory=list)
    suffix: list[str] = Field(default_factory=list)
    max_depth: Annotated[int, Field(strict=True, ge=1, le=_HIGHEST)] | None = None
    limit: Limit = 100
    offset: Offset = 0

    def wanted(self) -> NamespaceFilter:
        return NamespaceFilter(
            prefix=tuple(self.prefix),
            suffix=tuple(self.suffix),
            max_depth=self.max_depth,
            limit=self.limit,
            offset=self.offset,
        )


class ItemOut(BaseModel):
    namespace: list[str]
    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class FoundItemOut(ItemOut):
    """`score` is null: there is no vector index."""

    score: float | None


class FoundItemsOut(BaseModel):
    items: list[FoundItemOut]


class NamespacesOut(BaseModel):
    namespaces: list[list[str]]


def item_json(item: Item) -> JsonObject:
    """Ready to be encoded: the value goes out as the text it came as."""
    return {
        "namespace": item.namespace,
        "key": item.key,
        "value": fragment(item.value),
        "created_at": item.created_at,
        "updated_at": item.updated_at,
    }


def query_namespace(given: list[str]) -> Namespace:
    """One value is labels joined by dots; several are the labels themselves."""
    if given in ([], [""]):
        return ()
    return tuple(given[0].split(".") if len(given) == 1 else given)


def refuse_refresh(refresh: bool | None, field: str) -> None:
    if refresh:
        raise NotInThisVersion(field)
