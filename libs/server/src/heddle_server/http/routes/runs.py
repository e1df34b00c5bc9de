"""Runs on threads (server-api section 5)."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Response
from pydantic import BeforeValidator, WithJsonSchema

from heddle_core.domain.errors import BadRequest, InvalidRequest, NotFound
from heddle_core.domain.events import StreamMode
from heddle_core.domain.json import EMPTY_OBJECT
from heddle_core.domain.run import CancelAction, RunStatus
from heddle_core.domain.thread import Page
from heddle_core.usecases import runs
from heddle_server.http.answers import json_answer
from heddle_server.http.caller import Who
from heddle_server.http.deps import App
from heddle_server.http.ids import RunPath, ThreadPath
from heddle_server.http.openapi import errors
from heddle_server.http.run_answers import (
    RESULT,
    RUN,
    STREAM,
    RunField,
    cancel_if,
    leaves_with_client,
    run_object,
)
from heddle_server.http.schemas.answers import Empty, SelectedRun
from heddle_server.http.schemas.runs import RunCreate
from heddle_server.http.streams.sse import EventStream, resume_after
from heddle_server.http.streams.waiting import RunResult

router = APIRouter(tags=["runs"])


def _page_number(name: str, least: int, most: int) -> BeforeValidator:
    """Out of range is 400 on these routes, as clients of the LangGraph Server know it."""

    def parse(text: Any) -> int:
        try:
            number = int(text)
        except (ValueError, TypeError):
            raise BadRequest(f"query.{name}: must be an integer") from None
        if not least <= number <= most:
            raise BadRequest(f"query.{name}: must be between {least} and {most}")
        return number

    return BeforeValidator(parse)


Limit = Annotated[int, Query(ge=1, le=1000), _page_number("limit", 1, 1000)]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1), _page_number("offset", 0, 2**31 - 1)]
LastEventId = Annotated[str | None, Header(alias="last-event-id", description="Go on after this event; `-1`: all.")]
_MODE = "|".join(StreamMode)
ModeNames = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^({_MODE})(,({_MODE}))*$"})]
StreamModeQuery = Annotated[
    list[ModeNames] | None, Query(description="Show only these modes: repeated, `a,b` or a JSON list.")
]
CancelOnDisconnect = Annotated[bool, Query(description="Cancel the run when this client goes away.")]


@router.post("/threads/{thread_id}/runs", responses={**RUN, **errors(400, 404, 409)})
async def create_run(thread_id: ThreadPath, body: RunCreate, who: Who) -> Response:
    """Start a run on a thread and return at once."""
    run = await runs.start(who.ports, body.start_run(thread_id, who.configurable))
    return json_answer(run_object(run), headers=who.at(run))


@router.post("/threads/{thread_id}/runs/stream", response_class=Response, responses={**STREAM, **errors(400, 404, 409)})
async def stream_run(thread_id: ThreadPath, body: RunCreate, who: Who) -> Response:
    """Start a run on a thread and stream what it says."""
    attached = await runs.start_attached(who.ports, body.start_run(thread_id, who.configurable))
    on_gone = cancel_if(leaves_with_client(body.on_disconnect), who, attached)
    return EventStream(who.heartbeat, attached, who.at(attached.run, "stream"), on_gone=on_gone)


@router.post("/threads/{thread_id}/runs/wait", responses={**RESULT, **errors(400, 404, 409)})
async def wait_for_run(thread_id: ThreadPath, body: RunCreate, who: Who) -> Response:
    """Start a run on a thread and answer with its output."""
    command = body.start_run(thread_id, who.configurable)
    attached = await runs.start_attached(who.ports, command, only_end=True)
    on_gone = cancel_if(leaves_with_client(body.on_disconnect), who, attached)
    return RunResult(who.heartbeat, attached, who.at(attached.run, "join"), on_gone=on_gone)


@router.get(
    "/threads/{thread_id}/runs",
    responses={200: {"model": list[SelectedRun], "description": "Newest first."}, **errors(400, 404)},
)
async def list_runs(
    thread_id: ThreadPath,
    app: App,
    limit: Limit = 10,
    offset: Offset = 0,
    status: Annotated[str | None, Query(description="One of the run statuses; any other finds nothing.")] = None,
    select: Annotated[list[RunField] | None, Query(description="The fields wanted; repeat it for several.")] = None,
) -> Response:
    """The runs of a thread."""
    if status is not None and status not in set(RunStatus):
        return json_answer([])
    wanted = RunStatus(status) if status else None
    found = await runs.list_runs(app, thread_id, Page(limit=limit, offset=offset), wanted)
    rows = [run_object(run) for run in found]
    if select:
        rows = [{name: row[name] for name in select} for row in rows]
    return json_answer(rows)


@router.get("/threads/{thread_id}/runs/{run_id}", responses={**RUN, **errors(404)})
async def get_run(thread_id: ThreadPath, run_id: RunPath, app: App) -> Response:
    """One run."""
    return json_answer(run_object(await runs.get(app, thread_id, run_id)))


@router.delete("/threads/{thread_id}/runs/{run_id}", status_code=204, responses=errors(404, 409))
async def delete_run(thread_id: ThreadPath, run_id: RunPath, app: App) -> Response:
    """Remove a run; one in flight is cancelled first. Its checkpoints stay."""
    await runs.delete(app, thread_id, run_id)
    return Response(status_code=204)


@router.get("/threads/{thread_id}/runs/{run_id}/join", responses={**RESULT, **errors(404)})
async def join_run(
    thread_id: ThreadPath, run_id: RunPath, who: Who, cancel_on_disconnect: CancelOnDisconnect = False
) -> Response:
    """Wait for a run to end and answer with its output."""
    attached = await runs.join(who.ports, thread_id, run_id)
    on_gone = cancel_if(cancel_on_disconnect, who, attached)
    return RunResult(who.heartbeat, attached, who.at(attached.run, "join"), on_gone=on_gone)


@router.get("/threads/{thread_id}/runs/{run_id}/stream", response_class=Response, responses={**STREAM, **errors(404)})
async def join_stream(
    thread_id: ThreadPath,
    run_id: RunPath,
    who: Who,
    stream_mode: StreamModeQuery = None,
    cancel_on_disconnect: CancelOnDisconnect = False,
    last_event_id: LastEventId = None,
) -> Response:
    """Stream what a run says from now on, or from an event on."""
    modes = shown_modes(stream_mode)
    attached = await runs.watch(who.ports, thread_id, run_id, resume_after(last_event_id))
    on_gone = cancel_if(cancel_on_disconnect, who, attached)
    return EventStream(who.heartbeat, attached, who.at(attached.run, "stream"), modes=modes, on_gone=on_gone)


@router.post(
    "/threads/{thread_id}/runs/{run_id}/cancel",
    status_code=202,
    response_class=Response,
    responses={
        200: {"model": Empty, "description": "With `wait`: the run has ended."},
        202: {"description": "The run was asked to stop."},
        **errors(404),
    },
)
async def cancel_run(
    thread_id: ThreadPath,
    run_id: RunPath,
    who: Who,
    wait: Annotated[bool, Query(description="Answer when the run has ended.")] = False,
    action: CancelAction = CancelAction.INTERRUPT,
) -> Response:
    """Stop a run: keep what it did (`interrupt`) or undo it (`rollback`)."""
    await runs.cancel(who.ports, thread_id, run_id, action, wait=False)
    if not wait:
        return Response(status_code=202)
    headers = who.at_ids(thread_id, run_id, "join")
    try:
        attached = await runs.join(who.ports, thread_id, run_id)
    except NotFound:  # it is rolled back already
        return json_answer({}, headers=headers)
    return RunResult(who.heartbeat, attached, headers, answer=EMPTY_OBJECT)


def shown_modes(given: list[str] | None) -> frozenset[StreamMode] | None:
    """A stream_mode query in any of its forms; None when there is none."""
    if not given:
        return None
    names: list[str] = []
    for text in given:
        names += _json_names(text) if text.startswith("[") else text.split(",")
    try:
        return frozenset(StreamMode(name.strip()) for name in names)
    except ValueError as error:
        modes = ", ".join(StreamMode)
        raise InvalidRequest(f"{error}; the modes are {modes}", field="query.stream_mode") from None


def _json_names(text: str) -> list[str]:
    try:
        names = orjson.loads(text)
    except orjson.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidRequest("must be a mode, a comma list or a JSON list of modes", field="query.stream_mode")
    return names
