"""Runs without a thread of the caller's (server-api section 8), and what concerns runs of any thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response

from heddle_core.domain.ids import RunId, ThreadId
from heddle_core.domain.run import CancelAction
from heddle_core.usecases import runs
from heddle_server.http.answers import json_answer
from heddle_server.http.caller import Who
from heddle_server.http.deps import App
from heddle_server.http.ids import RunPath
from heddle_server.http.openapi import errors
from heddle_server.http.routes.runs import CancelOnDisconnect, LastEventId, StreamModeQuery, shown_modes
from heddle_server.http.run_answers import RESULT, RUN, STREAM, cancel_if, leaves_with_client, run_object
from heddle_server.http.schemas.answers import RunAnswer
from heddle_server.http.schemas.runs import RunCreate, RunsCancel
from heddle_server.http.streams.sse import EventStream, resume_after
from heddle_server.http.streams.waiting import RunResult

router = APIRouter(tags=["stateless runs"])

Batch = Annotated[list[RunCreate], Body(min_length=1, max_length=1000)]


@router.post("/runs", responses={**RUN, **errors(400, 404)})
async def create_stateless_run(body: RunCreate, who: Who) -> Response:
    """Start a run on a hidden thread and return at once. The thread goes with the run, unless `on_completion: keep`."""
    run = await runs.start(who.ports, body.start_run(None, who.configurable))
    return json_answer(run_object(run), headers=who.at_stateless(run))


@router.post("/runs/stream", response_class=Response, responses={**STREAM, **errors(400, 404)})
async def stream_stateless_run(body: RunCreate, who: Who) -> Response:
    """Start a run on a hidden thread and stream what it says."""
    attached = await runs.start_attached(who.ports, body.start_run(None, who.configurable))
    on_gone = cancel_if(leaves_with_client(body.on_disconnect), who, attached)
    return EventStream(who.heartbeat, attached, who.at_stateless(attached.run, "stream"), on_gone=on_gone)


@router.post("/runs/wait", responses={**RESULT, **errors(400, 404)})
async def wait_for_stateless_run(body: RunCreate, who: Who) -> Response:
    """Start a run on a hidden thread and answer with its output."""
    attached = await runs.start_attached(who.ports, body.start_run(None, who.configurable), only_end=True)
    on_gone = cancel_if(leaves_with_client(body.on_disconnect), who, attached)
    return RunResult(who.heartbeat, attached, who.at(attached.run, "join"), on_gone=on_gone)


@router.post(
    "/runs/batch",
    responses={200: {"model": list[RunAnswer], "description": "The runs, in order."}, **errors(400, 404)},
)
async def create_batch(body: Batch, who: Who) -> Response:
    """Start several runs, each on a hidden thread of its own."""
    started = await runs.start_many(who.ports, [item.start_run(None, who.configurable) for item in body])
    return json_answer([run_object(run) for run in started])


@router.post("/runs/cancel", status_code=204, responses=errors(404))
async def cancel_runs(body: RunsCancel, app: App, action: CancelAction = CancelAction.INTERRUPT) -> Response:
    """Cancel all runs of a status, or the named runs of a thread."""
    thread_id = ThreadId(body.thread_id) if body.thread_id else None
    run_ids = [RunId(run_id) for run_id in body.run_ids] if body.run_ids is not None else None
    await runs.cancel_many(app, thread_id, run_ids, body.run_status, action)
    return Response(status_code=204)


@router.get("/runs/{run_id}/stream", response_class=Response, responses={**STREAM, **errors(404)})
async def join_stateless_stream(
    run_id: RunPath,
    who: Who,
    stream_mode: StreamModeQuery = None,
    cancel_on_disconnect: CancelOnDisconnect = False,
    last_event_id: LastEventId = None,
) -> Response:
    """Stream what a run says from now on, or from an event on; this is where a broken stateless stream goes on."""
    modes = shown_modes(stream_mode)
    attached = await runs.watch(who.ports, None, run_id, resume_after(last_event_id))
    on_gone = cancel_if(cancel_on_disconnect, who, attached)
    headers = who.at_stateless(attached.run, "stream")
    return EventStream(who.heartbeat, attached, headers, modes=modes, on_gone=on_gone)
