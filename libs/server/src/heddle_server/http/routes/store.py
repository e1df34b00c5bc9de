"""The long-term store (server-api 10)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from heddle_core.domain.errors import BadRequest
from heddle_core.domain.json import NULL
from heddle_core.usecases import store
from heddle_server.http.answers import encoded_answer, json_answer
from heddle_server.http.deps import App
from heddle_server.http.openapi import answers
from heddle_server.http.schemas.store import (
    DeleteItem,
    FoundItemsOut,
    ItemOut,
    ListNamespaces,
    NamespacesOut,
    PutItem,
    SearchItems,
    item_json,
    query_namespace,
    refuse_refresh,
)

router = APIRouter(tags=["store"])

Labels = Annotated[
    list[str] | None, Query(alias="namespace", description="Labels joined by dots, or the parameter repeated per label")
]


@router.put("/store/items", status_code=204, summary="Write an item, whole", responses=answers(None, 400, 422))
async def put_item(body: PutItem, app: App) -> Response:
    await store.put(app, tuple(body.namespace), body.key, body.value)
    return Response(status_code=204)


@router.get("/store/items", summary="Get an item; null when there is none", responses=answers(ItemOut | None, 400, 422))
async def get_item(
    app: App,
    namespace: Labels = None,
    key: str = "",
    refresh_ttl: bool | None = None,
) -> Response:
    refuse_refresh(refresh_ttl, "query.refresh_ttl")
    if not key:
        raise BadRequest("Key is required")
    item = await store.get(app, query_namespace(namespace or []), key)
    return encoded_answer(NULL) if item is None else json_answer(item_json(item))


@router.delete(
    "/store/items", status_code=204, summary="Remove an item, if it is there", responses=answers(None, 400, 422)
)
async def delete_item(body: DeleteItem, app: App) -> Response:
    await store.delete(app, tuple(body.namespace), body.key)
    return Response(status_code=204)


@router.post("/store/items/search", summary="Search items", responses=answers(FoundItemsOut, 422))
async def search_items(body: SearchItems, app: App) -> Response:
    """Items under the prefix, newest change first. `filter` maps a key of the value to what it must equal, or to
    `$eq $ne $gt $gte $lt $lte` with an operand; numbers are compared with numbers and strings with strings."""
    found = await store.search(app, tuple(body.namespace_prefix), body.filter, limit=body.limit, offset=body.offset)
    return json_answer({"items": [{**item_json(item), "score": None} for item in found]})


@router.post("/store/namespaces", summary="List namespaces", responses=answers(NamespacesOut, 422))
async def list_namespaces(body: ListNamespaces, app: App) -> Response:
    return json_answer({"namespaces": await store.namespaces(app, body.wanted())})
