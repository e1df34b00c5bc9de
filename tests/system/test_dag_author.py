"""From one sentence to a committed DAG, through a real server and the official clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import LangGraphClient

from graphs.dag_author import roundtrip
from heddle_cli.postgres import Running
from tests.support.postgres_server import fresh_database
from tests.system.dag_world import DEMO, LOCAL, DagWorld, answer, dag_world, words

STEPS = ["planning", "validating", "rendering", "checking", "committing", "done"]
SPEC = {
    "dag_name": "Nightly",
    "schedule_interval": "@daily",
    "tasks": [
        {"task_id": "a", "task_type": "bash", "bash_command": "echo a"},
        {"task_id": "b", "task_type": "bash", "bash_command": "echo b", "dependencies": ["a"]},
    ],
}


@pytest.fixture(scope="module")
def world(postgres: Running, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagWorld]:
    """One server for the tests of this module; each test has a project of its own."""
    with (
        fresh_database(postgres, migrated_template) as address,
        dag_world(address, tmp_path_factory.mktemp("dags")) as running,
    ):
        yield running


@pytest.fixture
async def client(world: DagWorld) -> AsyncIterator[LangGraphClient]:
    async with world.client() as client:
        yield client


@pytest.fixture
def project() -> UUID:
    return uuid4()


async def say(client: LangGraphClient, project: UUID, message: str | list[Any], thread: str | None = None) -> Any:
    return await client.runs.wait(thread, "dag_author", input=words(message), config=of(project))


def of(project: UUID) -> Any:
    return {"configurable": {"project_id": str(project)}}


async def test_the_demo_sentence_streams_its_steps_and_leaves_a_commit(
    world: DagWorld, client: LangGraphClient
) -> None:
    thread = (await client.threads.create())["thread_id"]
    parts = [
        part
        async for part in client.runs.stream(thread, "dag_author", input=words(DEMO), stream_mode=["custom", "values"])
    ]
    assert parts[0].event == "metadata"
    assert [part.data["step"] for part in parts if part.event == "custom"] == STEPS
    values = parts[-1].data
    assert parts[-1].event == "values"
    assert values["commit_id"] == world.git("rev-parse", "main")

    dag = roundtrip.read(world.git("show", f"{values['commit_id']}:{values['file_path']}"))
    assert [task.kind for task in dag.tasks] == ["sql", "sql", "python"]
    first, second, third = (task.task_id for task in dag.tasks)
    assert dag.edges == {(first, second), (second, third)}
    assert dag.arguments["schedule"] == "0 6 * * *"

    (row,) = world.rows("user_dags", LOCAL)
    assert (row["dag_id"], row["commit_id"]) == (values["dag_id"], values["commit_id"])
    assert (row["schedule_interval"], row["task_count"]) == ("0 6 * * *", 3)
    said = answer(values)
    assert all(word in said for word in (values["file_path"], values["commit_id"], "every day at 06:00", "mermaid"))
    assert all(run in said for run in values["next_runs"])
    assert (await client.threads.get(thread))["status"] == "idle"
    assert (await client.threads.get_state(thread))["values"]["dag_id"] == values["dag_id"]


def test_the_synchronous_client_does_the_same(world: DagWorld, project: UUID) -> None:
    with get_sync_client(url=world.server.url, api_key=None) as client:
        thread = client.threads.create()["thread_id"]
        parts = list(
            client.runs.stream(
                thread, "dag_author", input=words(DEMO), config=of(project), stream_mode=["custom", "values"]
            )
        )
        listed: Any = client.runs.wait(thread, "dag_author", input=words("/agent list"), config=of(project))
    assert [part.data["step"] for part in parts if part.event == "custom"] == STEPS
    assert parts[-1].data["dag_id"] in answer(listed)
    assert len(world.rows("user_dags", project)) == 1


async def test_a_conversation_lists_shows_helps_and_corrects(client: LangGraphClient, project: UUID) -> None:
    thread = (await client.threads.create())["thread_id"]
    assert "no DAGs yet" in answer(await say(client, project, "/agent list", thread))
    made = await say(client, project, DEMO, thread)
    assert made["dag_id"] in answer(await say(client, project, "/agent list", thread))
    shown = answer(await say(client, project, f"/agent show {made['dag_id']}", thread))
    assert "with DAG(" in shown
    assert "every day at 06:00" in shown
    missed = await say(client, project, f"/agent show {made['dag_id']}x", thread)
    assert missed["problems"][0]["code"] == "dag_not_found"
    assert f"did you mean {made['dag_id']}?" in answer(missed)
    assert "/agent create <" in answer(await say(client, project, "/agent help", thread))
    assert "Did you mean `/agent create`?" in answer(await say(client, project, "/agent creat x", thread))
    values = await say(client, project, "what can you do?", thread)
    assert "Airflow" in answer(values)
    # Eight questions, eight answers, in order, none doubled.
    assert [message["type"] for message in values["messages"]] == ["human", "ai"] * 8
    assert len({message["id"] for message in values["messages"]}) == 16


@pytest.mark.parametrize("threaded", [True, False])
async def test_a_spec_is_taken_without_prose(client: LangGraphClient, project: UUID, threaded: bool) -> None:
    thread: Any = (await client.threads.create())["thread_id"] if threaded else None
    made: Any = await client.runs.wait(thread, "dag_author", input={"spec": SPEC}, config=of(project))
    assert (made["dag_id"], made["planner"], made["problems"]) == ("nightly", "given", [])
    assert made["dag_id"] in answer(await say(client, project, "/agent list", thread))


async def test_a_spec_that_breaks_a_rule_is_answered_and_writes_nothing(
    world: DagWorld, client: LangGraphClient, project: UUID
) -> None:
    await say(client, project, DEMO)
    before = world.snapshot(project)
    tasks = [{"task_id": "a", "task_type": "empty", "dependencies": ["a"]}]
    values: Any = await client.runs.wait(
        None, "dag_author", input={"spec": SPEC | {"tasks": tasks}}, config=of(project)
    )
    assert values["problems"][0]["code"].startswith("graph_")
    assert "Fix:" in answer(values)
    assert world.snapshot(project) == before


async def test_content_blocks_are_a_message_like_any_other(client: LangGraphClient, project: UUID) -> None:
    made = await say(client, project, [{"type": "text", "text": DEMO}])
    assert made["commit_id"]


async def test_projects_never_see_each_other(world: DagWorld, client: LangGraphClient, project: UUID) -> None:
    other = uuid4()
    made = await say(client, project, DEMO)
    assert "no DAGs yet" in answer(await say(client, other, "/agent list"))
    assert (await say(client, other, f"/agent show {made['dag_id']}"))["problems"][0]["code"] == "dag_not_found"
    assert (await say(client, other, DEMO))["dag_id"] == made["dag_id"]
    assert [len(world.rows("user_dags", each)) for each in (project, other)] == [1, 1]
    # The name of a project is an id, never a path.
    refused: Any = await client.runs.wait(
        None, "dag_author", input=words("/agent list"), config={"configurable": {"project_id": "../../etc"}}
    )
    assert refused["problems"][0]["code"] == "project_invalid"


async def test_a_project_may_be_set_once_on_an_assistant(
    world: DagWorld, client: LangGraphClient, project: UUID
) -> None:
    assistant = (await client.assistants.create("dag_author", config=of(project)))["assistant_id"]
    made: Any = await client.runs.wait(None, assistant, input=words(DEMO))
    assert [row["dag_id"] for row in world.rows("user_dags", project)] == [made["dag_id"]]


async def test_twenty_equal_creates_at_once_make_twenty_dags(
    world: DagWorld, client: LangGraphClient, project: UUID
) -> None:
    made = await asyncio.gather(*(say(client, project, DEMO) for _ in range(20)))
    ids = {values["dag_id"] for values in made}
    assert len(ids) == 20
    assert [values["problems"] for values in made] == [[]] * 20
    assert {row["dag_id"] for row in world.rows("user_dags", project)} == ids
    files = world.git("ls-tree", "-r", "--name-only", "main", "dags/", project=project).split()
    assert set(files) == {f"dags/{dag_id}.py" for dag_id in ids}
    history = world.git("rev-list", "main", project=project).split()
    assert {values["commit_id"] for values in made} <= set(history)
    assert world.rows("project_commits", project)[-1]["commit_id"] in history
    assert "error" not in world.server.output().lower()


async def test_a_create_rolled_back_before_its_commit_leaves_nothing_and_the_thread_goes_on(
    world: DagWorld, client: LangGraphClient, project: UUID
) -> None:
    thread = (await client.threads.create())["thread_id"]
    await say(client, project, DEMO, thread)
    before = world.snapshot(project)
    state = await client.threads.get_state(thread)
    with psycopg.connect(world.database.libpq_url()) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [str(project)])
        run = await client.runs.create(thread, "dag_author", input=words(DEMO), config=of(project))
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(world.waits_for_a_lock):
                await asyncio.sleep(0.02)
        await client.runs.cancel(thread, run["run_id"], wait=True, action="rollback")
    assert world.snapshot(project) == before
    assert await client.threads.get_state(thread) == state
    assert (await say(client, project, DEMO, thread))["commit_id"]
