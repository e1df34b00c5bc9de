"""Threads (server-api 4)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel

from heddle_core.domain.errors import NotInThisVersion
from heddle_core.usecases import threads
from heddle_server.http.answers import json_answer
from heddle_server.http.deps import App
from heddle_server.http.ids import ThreadPath
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

Prefer = Annotated[str | None, Header(description="`return=minimal`: 204 without a body")]


class Problem(BaseModel):
    """What went wrong; `detail` names the field, if one is at fault."""

    detail: str


def answers(model: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented answers of a route: its success and these errors."""
    texts = {400: "Makes no sense here", 404: "Not found", 409: "In conflict", 422: "Invalid", 503: "Not now"}
    documented: dict[int | str, dict[str, Any]] = {200: {"model": model}}
    documented.update({status: {"model": Problem, "description": texts[status]} for status in statuses})
    return documented


def is_minimal(prefer: str | None) -> bool:
    """Does the client want no body back?"""
    return prefer is not None and "return=minimal" in (part.strip().lower() for part in prefer.split(","))


@router.post("/threads", summary="Create a thread", responses=answers(ThreadOut, 400, 409, 422, 503))
async def create_thread(body: ThreadCreate, app: App) -> Response:
    return json_answer(thread_json(await threads.create(app, body.command())))


@router.post("/threads/search", summary="Search threads", responses=answers(list[FoundThreadOut], 422))
async def search_threads(body: ThreadSearch, app: App) -> Response:
    """Headers: `X-Pagination-Total` is how many there are, `X-Pagination-Next` the next offset if there are more."""
    page = body.page()
    found = await threads.search(app, body.filter(), page)
    headers = {"X-Pagination-Total": str(found.total)}
    end = page.offset + len(found.threads)
    if found.threads and end < found.total:
        headers["X-Pagination-Next"] = str(end)
    return json_answer(threads_json(found.threads, page), headers=headers)


@router.post("/threads/count", summary="Count threads", responses=answers(int, 422))
async def count_threads(body: ThreadCount, app: App) -> Response:
    return json_answer(await threads.count(app, body.filter()))


@router.get("/threads/{thread_id}", summary="Get a thread", responses=answers(ThreadOut, 404, 422))
async def get_thread(thread_id: ThreadPath, app: App, include: Annotated[list[str] | None, Query()] = None) -> Response:
    if any("ttl" in part.split(",") for part in include or ()):
        raise NotInThisVersion("query.include=ttl")
    return json_answer(thread_json(await threads.get(app, thread_id)))


@router.patch(
    "/threads/{thread_id}",
    summary="Merge metadata into a thread",
    responses={**answers(ThreadOut, 404, 422), 204: {"description": "Done, as `Prefer: return=minimal` asked"}},
)
async def patch_thread(thread_id: ThreadPath, body: ThreadPatch, app: App, prefer: Prefer = None) -> Response:
    thread = await threads.merge_metadata(app, thread_id, jsonb(body.metadata, "body.metadata"))
    return Response(status_code=204) if is_minimal(prefer) else json_answer(thread_json(thread))


@router.delete(
    "/threads/{thread_id}",
    status_code=204,
    summary="Delete a thread with its runs and state",
    responses={status: answer for status, answer in answers(None, 404, 422).items() if status != 200},
)
async def delete_thread(thread_id: ThreadPath, app: App) -> Response:
    await threads.delete(app, thread_id)
    return Response(status_code=204)


@router.post("/threads/{thread_id}/copy", summary="Copy a thread", responses=answers(ThreadOut, 404, 422))
async def copy_thread(thread_id: ThreadPath, app: App) -> Response:
    """A new thread with the same metadata, state and history, without the runs."""
    return json_answer(thread_json(await threads.copy(app, thread_id)))
