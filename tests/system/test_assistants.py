"""Assistants through the official SDK and on the wire: versions, searches, drawings and schemas."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from tests.support.server import Server
from tests.system.waiting import until_status

GRAPHS = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


def status_of(refused: pytest.ExceptionInfo[APIStatusError]) -> int:
    return refused.value.response.status_code


@pytest.mark.parametrize("graph", ["echo", "line", "approval"])
async def test_each_graph_has_an_assistant_with_the_id_that_clients_compute(
    client: LangGraphClient, graph: str
) -> None:
    assistant = await client.assistants.get(str(uuid5(GRAPHS, graph)))
    assert (assistant["graph_id"], assistant["name"], assistant["version"]) == (graph, graph, 1)
    assert assistant["metadata"]["created_by"] == "system"
    found = await client.assistants.search(metadata={"created_by": "system"}, graph_id=graph)
    assert [each["assistant_id"] for each in found] == [assistant["assistant_id"]]
    with pytest.raises(APIStatusError) as refused:
        await client.assistants.delete(assistant["assistant_id"])
    assert status_of(refused) == 409


async def test_an_id_is_unique_and_creating_it_again_may_do_nothing(client: LangGraphClient) -> None:
    wanted = str(uuid4())
    made = await client.assistants.create("echo", assistant_id=wanted, name="first")
    with pytest.raises(APIStatusError) as refused:
        await client.assistants.create("echo", assistant_id=wanted)
    assert status_of(refused) == 409
    again = await client.assistants.create("line", assistant_id=wanted, name="second", if_exists="do_nothing")
    assert again == made


async def test_an_unknown_graph_is_404_and_names_itself(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/assistants", json={"graph_id": "no-such-graph"})
    assert answer.status_code == 404
    assert "no-such-graph" in answer.json()["detail"]


async def test_every_change_is_a_version_and_latest_takes_one_back_whole(client: LangGraphClient) -> None:
    made = await client.assistants.create(
        "tone", name="one", context={"tone": "one"}, metadata={"kept": 1}, description="first"
    )
    wanted = made["assistant_id"]
    await client.assistants.update(wanted, name="two")
    third = await client.assistants.update(wanted, context={"tone": "three"}, metadata={"more": 2}, description="third")
    assert (third["version"], third["name"]) == (3, "two")
    assert third["metadata"] == {"kept": 1, "more": 2}
    assert third["config"]["configurable"] == {"tone": "three"}  # context and configurable mirror each other

    versions = await client.assistants.get_versions(wanted)
    assert [each["version"] for each in versions] == [3, 2, 1]
    assert all("updated_at" not in each for each in versions)
    page = await client.assistants.get_versions(wanted, limit=1, offset=1)
    assert [each["version"] for each in page] == [2]
    assert [v["version"] for v in await client.assistants.get_versions(wanted, metadata={"more": 2})] == [3]

    back = await client.assistants.set_latest(wanted, 1)
    for field in ("graph_id", "config", "context", "metadata", "name", "description", "version"):
        assert back[field] == made[field]
    ran: Any = await client.runs.wait(None, wanted, input={})
    assert ran["log"] == ["one"]
    assert [each["version"] for each in await client.assistants.get_versions(wanted)] == [3, 2, 1]
    assert (await client.assistants.update(wanted, name="four"))["version"] == 4
    with pytest.raises(APIStatusError) as refused:
        await client.assistants.set_latest(wanted, 99)
    assert status_of(refused) == 404
    assert "Version 99 not found" in refused.value.response.json()["detail"]


async def test_searches_page_sort_select_and_count_the_same_assistants(client: LangGraphClient, server: Server) -> None:
    mark = {"mark": str(uuid4())}
    made = [await client.assistants.create("echo", name=f"{name} of mine", metadata=mark) for name in "cab"]
    ids = [each["assistant_id"] for each in made]

    async def search(**asked: Any) -> list[str]:
        return [each["assistant_id"] for each in await client.assistants.search(metadata=mark, **asked)]

    assert await search() == ids[::-1]
    assert await search(sort_by="name", sort_order="asc") == [ids[1], ids[2], ids[0]]
    assert await search(limit=2, offset=1) == [ids[1], ids[0]]
    assert await search(name="A OF m") == [ids[1]]
    assert await search(graph_id="line") == []
    assert await client.assistants.count(metadata=mark) == 3
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post(
            "/assistants/search", json={"metadata": mark, "limit": 2, "select": ["name", "graph_id"]}
        )
        assert answer.headers["x-pagination-total"] == "3"
        assert answer.headers["x-pagination-next"] == "2"
        assert [sorted(each) for each in answer.json()] == [["graph_id", "name"]] * 2
        last = await http.post("/assistants/search", json={"metadata": mark, "limit": 2, "offset": 2})
        assert "x-pagination-next" not in last.headers
        assert (await http.post("/assistants/search", json={"select": ["secret"]})).status_code == 422
        assert (await http.post("/assistants/search", json={"sort_by": "secret"})).status_code == 422


async def test_deleting_an_assistant_stops_its_runs_and_may_take_its_threads_along(
    client: LangGraphClient, server: Server
) -> None:
    assistant = (await client.assistants.create("steps"))["assistant_id"]
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, assistant, input={"left": 1, "gate": "/nowhere"})
    await until_status(client, thread, run["run_id"], "running")
    async with httpx.AsyncClient(base_url=server.url) as http:
        assert (await http.delete(f"/assistants/{assistant}?delete_threads=true")).status_code == 204
        assert (await http.get(f"/threads/{thread}")).status_code == 404
        for route in ("", "/graph", "/schemas", "/subgraphs"):
            assert (await http.get(f"/assistants/{assistant}{route}")).status_code == 404
        assert (await http.delete(f"/assistants/{assistant}")).status_code == 404
        assert (await http.post(f"/assistants/{assistant}/versions", json={})).status_code == 404


async def test_a_graph_is_drawn_by_its_name(client: LangGraphClient, server: Server) -> None:
    drawn = await client.assistants.get_graph("parent")
    assert [node["id"] for node in drawn["nodes"]] == ["__start__", "outer", "sub", "last", "__end__"]
    assert {"source": "outer", "target": "sub"} in drawn["edges"]
    deep = await client.assistants.get_graph("parent", xray=True)
    assert {"sub:inner", "sub:ask"} <= {node["id"] for node in deep["nodes"]}
    assert {"source": "sub:inner", "target": "sub:ask"} in deep["edges"]
    assert await client.assistants.get_graph("parent", xray=1) == deep
    routes = await client.assistants.get_graph("chat")
    assert any(edge.get("conditional") for edge in routes["edges"])
    async with httpx.AsyncClient(base_url=server.url) as http:
        wrong = await http.get("/assistants/parent/graph?xray=much")
        assert wrong.status_code == 422
        assert (await http.get("/assistants/no-such-graph/graph")).status_code in (404, 422)


async def test_schemas_and_subgraphs_are_told_by_graph_name(client: LangGraphClient) -> None:
    schemas = await client.assistants.get_schemas("tone")
    assert schemas["graph_id"] == "tone"
    assert set(schemas["state_schema"]["properties"]) == {"log", "value"}
    assert set(schemas["context_schema"]["properties"]) == {"tone"}
    assert schemas["config_schema"] is not None
    chat = await client.assistants.get_schemas("chat")
    assert "AIMessage" in chat["input_schema"]["$defs"]

    subgraphs: Any = await client.assistants.get_subgraphs("parent")
    assert list(subgraphs) == ["sub"]
    assert "graph_id" not in subgraphs["sub"]
    assert set(subgraphs["sub"]["state_schema"]["properties"]) == {"log", "value"}
    assert await client.assistants.get_subgraphs("parent", namespace="sub", recurse=True) == subgraphs
    assert await client.assistants.get_subgraphs("parent", namespace="none") == {}
    assert await client.assistants.get_subgraphs("line") == {}


def test_the_synchronous_client_reads_the_same(server: Server) -> None:
    with get_sync_client(url=server.url, api_key=None) as client:
        made = client.assistants.create("echo", metadata={"mark": str(uuid4())})
        assert client.assistants.search(metadata=made["metadata"]) == [made]
        assert client.assistants.get_graph("line")["nodes"][1]["id"] == "one"
        client.assistants.delete(made["assistant_id"])
        assert client.assistants.search(metadata=made["metadata"]) == []


async def test_an_id_that_is_no_uuid_is_refused_by_what_it_must_be(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.get("/assistants/not-an-id")
    assert answer.status_code == 422
    assert "must be a UUID" in answer.json()["detail"]
