"""Assistants (server-api 3)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import WithJsonSchema

from heddle_core.usecases import assistants
from heddle_server.http.answers import encoded_answer, json_answer
from heddle_server.http.deps import App
from heddle_server.http.ids import AssistantPath
from heddle_server.http.openapi import answers
from heddle_server.http.prefer import NO_BODY, Prefer, is_minimal
from heddle_server.http.schemas.assistants import (
    AssistantCount,
    AssistantCreate,
    AssistantOut,
    AssistantPatch,
    AssistantSearch,
    DrawingOut,
    FoundAssistantOut,
    LatestVersion,
    SchemasOut,
    VersionOut,
    VersionSearch,
    assistant_json,
    assistants_json,
    version_json,
    xray_depth,
)

router = APIRouter(tags=["assistants"])

Xray = Annotated[
    str | None,
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": 999_999_999}]}),
    Query(description="Open subgraphs: all of them, or so many levels"),
]
Recurse = Annotated[bool, Query(description="Subgraphs of subgraphs, too")]


@router.post("/assistants", summary="Create an assistant", responses=answers(AssistantOut, 400, 404, 409, 422))
async def create_assistant(body: AssistantCreate, app: App) -> Response:
    return json_answer(assistant_json(await assistants.create(app, body.command())))


@router.post("/assistants/search", summary="Search assistants", responses=answers(list[FoundAssistantOut], 422))
async def search_assistants(body: AssistantSearch, app: App) -> Response:
    """Headers: `X-Pagination-Total` is how many there are, `X-Pagination-Next` the next offset if there are more."""
    page = body.page()
    found = await assistants.search(app, body.filter(), page)
    headers = {"X-Pagination-Total": str(found.total)}
    end = page.offset + len(found.assistants)
    if found.assistants and end < found.total:
        headers["X-Pagination-Next"] = str(end)
    return json_answer(assistants_json(found.assistants, page), headers=headers)


@router.post("/assistants/count", summary="Count assistants", responses=answers(int, 422))
async def count_assistants(body: AssistantCount, app: App) -> Response:
    return json_answer(await assistants.count(app, body.filter()))


@router.get("/assistants/{assistant_id}", summary="Get an assistant", responses=answers(AssistantOut, 404, 422))
async def get_assistant(assistant_id: AssistantPath, app: App) -> Response:
    return json_answer(assistant_json(await assistants.get(app, assistant_id)))


@router.patch(
    "/assistants/{assistant_id}",
    summary="Make a new version of an assistant",
    responses={
        **answers(AssistantOut, 400, 404, 422),
        **NO_BODY,
    },
)
async def patch_assistant(
    assistant_id: AssistantPath, body: AssistantPatch, app: App, prefer: Prefer = None
) -> Response:
    made = await assistants.change(app, assistant_id, body.change())
    return Response(status_code=204) if is_minimal(prefer) else json_answer(assistant_json(made))


@router.delete(
    "/assistants/{assistant_id}",
    status_code=204,
    summary="Delete an assistant with its versions; its runs in flight are cancelled",
    responses=answers(None, 404, 409, 422),
)
async def delete_assistant(
    assistant_id: AssistantPath,
    app: App,
    delete_threads: Annotated[bool, Query(description="Delete the threads that name it, too")] = False,
) -> Response:
    await assistants.delete(app, assistant_id, delete_threads=delete_threads)
    return Response(status_code=204)


@router.post(
    "/assistants/{assistant_id}/versions",
    summary="List the versions of an assistant, newest first",
    responses=answers(list[VersionOut], 404, 422),
)
async def list_versions(assistant_id: AssistantPath, body: VersionSearch, app: App) -> Response:
    found = await assistants.versions(app, assistant_id, body.contained(), body.page())
    return json_answer([version_json(version) for version in found])


@router.post(
    "/assistants/{assistant_id}/latest",
    summary="Make an older version current again",
    responses=answers(AssistantOut, 404, 422),
)
async def set_latest_version(assistant_id: AssistantPath, body: LatestVersion, app: App) -> Response:
    return json_answer(assistant_json(await assistants.set_latest(app, assistant_id, body.version)))


@router.get(
    "/assistants/{assistant_id}/graph",
    summary="Draw the graph of an assistant, named by id or by graph id",
    responses=answers(DrawingOut, 404, 422),
)
async def get_graph(assistant_id: str, app: App, xray: Xray = None) -> Response:
    return encoded_answer(await assistants.drawing(app, assistant_id, xray_depth(xray)))


@router.get(
    "/assistants/{assistant_id}/schemas",
    summary="The schemas of an assistant's graph",
    responses=answers(SchemasOut, 404, 422),
)
async def get_schemas(assistant_id: str, app: App) -> Response:
    return encoded_answer(await assistants.schemas(app, assistant_id))


@router.get(
    "/assistants/{assistant_id}/subgraphs",
    summary="The schemas of the subgraphs, by namespace",
    responses=answers(dict[str, Any], 404, 422),
)
async def get_subgraphs(assistant_id: str, app: App, recurse: Recurse = False) -> Response:
    return encoded_answer(await assistants.subgraphs(app, assistant_id, None, recurse=recurse))


@router.get(
    "/assistants/{assistant_id}/subgraphs/{namespace}",
    summary="The schemas of one subgraph; `{}` when there is none of that name",
    responses=answers(dict[str, Any], 404, 422),
)
async def get_subgraph(assistant_id: str, namespace: str, app: App, recurse: Recurse = False) -> Response:
    return encoded_answer(await assistants.subgraphs(app, assistant_id, namespace, recurse=recurse))
