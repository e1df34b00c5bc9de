"""The state of threads and its history (server-api 4.4 and 4.5)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from heddle_core.usecases import state, threads
from heddle_server.http.answers import encoded_answer, json_answer
from heddle_server.http.deps import App
from heddle_server.http.ids import CheckpointPath, ThreadPath
from heddle_server.http.openapi import errors
from heddle_server.http.prefer import NO_BODY, Prefer, is_minimal
from heddle_server.http.schemas.jsonb import jsonb
from heddle_server.http.schemas.state import (
    HistoryBody,
    StateAtCheckpoint,
    StateOut,
    StatePatch,
    StateSelect,
    StateUpdateBody,
    UpdatedOut,
    updated_json,
)
from heddle_server.http.schemas.threads import ThreadOut, thread_json

router = APIRouter(tags=["threads"])

Select = Annotated[
    list[str] | None, Query(description="Fields to send; `values.<key>` for one key of the values. Default: all")
]
Subgraphs = Annotated[bool, Query(description="Include the states of subgraphs that have not finished")]


@router.get(
    "/threads/{thread_id}/state",
    summary="Get the state of a thread",
    responses={200: {"model": StateOut}, **errors(400, 404, 422)},
)
async def get_state(thread_id: ThreadPath, app: App, subgraphs: Subgraphs = False, select: Select = None) -> Response:
    chosen = StateSelect(select, "query.select")
    return encoded_answer(chosen.apply(await state.read(app, thread_id, None, subgraphs=subgraphs)))


@router.get(
    "/threads/{thread_id}/state/{checkpoint_id}",
    summary="Get the state at a checkpoint",
    responses={200: {"model": StateOut}, **errors(400, 404, 422)},
)
async def get_state_at(
    thread_id: ThreadPath,
    checkpoint_id: CheckpointPath,
    app: App,
    subgraphs: Subgraphs = False,
    select: Select = None,
) -> Response:
    """An unknown checkpoint has empty values; its id is echoed."""
    chosen = StateSelect(select, "query.select")
    checkpoint = {"checkpoint_id": str(checkpoint_id)}
    return encoded_answer(chosen.apply(await state.read(app, thread_id, checkpoint, subgraphs=subgraphs)))


@router.post(
    "/threads/{thread_id}/state/checkpoint",
    summary="Get the state at a checkpoint, also of a subgraph",
    responses={200: {"model": StateOut}, **errors(400, 404, 422)},
)
async def get_state_by_checkpoint(thread_id: ThreadPath, body: StateAtCheckpoint, app: App) -> Response:
    """A checkpoint without an id is the latest."""
    chosen = StateSelect(body.select, "body.select")
    checkpoint = body.checkpoint.config() or None
    return encoded_answer(chosen.apply(await state.read(app, thread_id, checkpoint, subgraphs=body.subgraphs)))


@router.post(
    "/threads/{thread_id}/state",
    summary="Update the state of a thread",
    responses={
        200: {"model": UpdatedOut},
        **errors(400, 404, 409, 422, 503),
        **NO_BODY,
    },
)
async def update_state(thread_id: ThreadPath, body: StateUpdateBody, app: App, prefer: Prefer = None) -> Response:
    checkpoint = await state.update(app, thread_id, body.base(), body.updates())
    return Response(status_code=204) if is_minimal(prefer) else json_answer(updated_json(checkpoint))


@router.patch(
    "/threads/{thread_id}/state",
    summary="Merge metadata into a thread",
    responses={
        200: {"model": ThreadOut},
        **errors(404, 422),
        **NO_BODY,
    },
)
async def patch_state(thread_id: ThreadPath, body: StatePatch, app: App, prefer: Prefer = None) -> Response:
    """What the JavaScript SDK calls patchState. The state itself does not change."""
    thread = await threads.merge_metadata(app, thread_id, jsonb(body.metadata, "body.metadata"))
    return Response(status_code=204) if is_minimal(prefer) else json_answer(thread_json(thread))


@router.get(
    "/threads/{thread_id}/history",
    summary="States of a thread, newest first",
    responses={200: {"model": list[StateOut]}, **errors(400, 404, 422)},
)
async def get_history(
    thread_id: ThreadPath,
    app: App,
    limit: Annotated[int, Query(ge=1, le=1000)] = 10,
    before: Annotated[UUID | None, Query(description="Only checkpoints older than this one")] = None,
) -> Response:
    bound = None if before is None else {"checkpoint_id": str(before)}
    found = await state.history(app, thread_id, limit=limit, before=bound, metadata=None, checkpoint=None)
    return encoded_answer(found)


@router.post(
    "/threads/{thread_id}/history",
    summary="States of a thread, newest first, filtered",
    responses={200: {"model": list[StateOut]}, **errors(400, 404, 422)},
)
async def search_history(thread_id: ThreadPath, body: HistoryBody, app: App) -> Response:
    chosen = StateSelect(body.select, "body.select")
    found = await state.history(
        app,
        thread_id,
        limit=body.limit,
        before=body.before_config(),
        metadata=body.metadata_filter(),
        checkpoint=(body.checkpoint.config() or None) if body.checkpoint else None,
    )
    return encoded_answer(chosen.apply(found))
