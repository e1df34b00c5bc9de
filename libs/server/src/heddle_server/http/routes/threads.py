"""Threads (server-api 4)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from heddle_core.domain.errors import NotInThisVersion
from heddle_core.usecases import threads
from heddle_server.http.answers import json_answer
from heddle_server.http.deps import App
from heddle_server.http.ids import ThreadPath
from heddle_server.http.openapi import errors
from heddle_server.http.prefer import NO_BODY, Prefer, is_minimal
from heddle_server.http.schemas.jsonb import jsonb
from heddle_server.http.schemas.threads import (
    FoundThreadOut,
    ThreadCount,
    ThreadCreate,
    ThreadOut,
    ThreadPatch,
    ThreadSearch,
    thread_json,
    threads_json,
)

router = APIRouter(tags=["threads"])


@router.post("/threads", summary="Create a thread", responses={200: {"model": ThreadOut}, **errors(400, 409, 422, 503)})
async def create_thread(body: ThreadCreate, app: App) -> Response:
    return json_answer(thread_json(await threads.create(app, body.command())))


@router.post(
    "/threads/search", summary="Search threads", responses={200: {"model": list[FoundThreadOut]}, **errors(422)}
)
async def search_threads(body: ThreadSearch, app: App) -> Response:
    """Headers: `X-Pagination-Total` is how many there are, `X-Pagination-Next` the next offset if there are more."""
    page = body.page()
    found = await threads.search(app, body.filter(), page)
    headers = {"X-Pagination-Total": str(found.total)}
    end = page.offset + len(found.threads)
    if found.threads and end < found.total:
        headers["X-Pagination-Next"] = str(end)
    return json_answer(threads_json(found.threads, page), headers=headers)


@router.post("/threads/count", summary="Count threads", responses={200: {"model": int}, **errors(422)})
async def count_threads(body: ThreadCount, app: App) -> Response:
    return json_answer(await threads.count(app, body.filter()))


@router.get("/threads/{thread_id}", summary="Get a thread", responses={200: {"model": ThreadOut}, **errors(404, 422)})
async def get_thread(thread_id: ThreadPath, app: App, include: Annotated[list[str] | None, Query()] = None) -> Response:
    if any("ttl" in part.split(",") for part in include or ()):
        raise NotInThisVersion("query.include=ttl")
    return json_answer(thread_json(await threads.get(app, thread_id)))


@router.patch(
    "/threads/{thread_id}",
    summary="Merge metadata into a thread",
    responses={
        200: {"model": ThreadOut},
        **errors(404, 422),
        **NO_BODY,
    },
)
async def patch_thread(thread_id: ThreadPath, body: ThreadPatch, app: App, prefer: Prefer = None) -> Response:
    thread = await threads.merge_metadata(app, thread_id, jsonb(body.metadata, "body.metadata"))
    return Response(status_code=204) if is_minimal(prefer) else json_answer(thread_json(thread))


@router.delete(
    "/threads/{thread_id}",
    status_code=204,
    summary="Delete a thread with its runs and state",
    responses=errors(404, 422),
)
async def delete_thread(thread_id: ThreadPath, app: App) -> Response:
    await threads.delete(app, thread_id)
    return Response(status_code=204)


@router.post(
    "/threads/{thread_id}/copy", summary="Copy a thread", responses={200: {"model": ThreadOut}, **errors(404, 422)}
)
async def copy_thread(thread_id: ThreadPath, app: App) -> Response:
    """A new thread with the same metadata, state and history, without the runs."""
    return json_answer(thread_json(await threads.copy(app, thread_id)))
