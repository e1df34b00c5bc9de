"""What is left of a create when its server is killed, and when the model it asks fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient

from heddle_server.dsn import Dsn
from tests.support.fake_llm import Say, Service, serve, tool
from tests.system.dag_world import DEMO, LOCAL, DagWorld, answer, dag_world, words
from tests.system.waiting import until, until_status

KEY = "sk-a-secret-nobody-may-read"
QUICK = {"HEDDLE_LEASE_SECONDS": "3", "HEDDLE_POLL_SECONDS": "0.5"}
LOCK_PROJECT = f"SELECT pg_advisory_xact_lock(hashtextextended('{LOCAL}', 0))"
LOCK_AT_COMMIT = "SELECT pg_advisory_xact_lock(42)"
# A constraint trigger that is deferred fires inside COMMIT, after the branch has moved.
WAIT_AT_COMMIT = """
CREATE FUNCTION public.at_commit() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON public.user_dags DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION public.at_commit();
"""
SPEC = {
    "dag_name": "Orders",
    "schedule_interval": "0 6 * * *",
    "tasks": [{"task_id": "extract", "task_type": "sql", "conn_id": "postgres", "sql": "select 1"}],
}


@pytest.fixture
def start(database: Dsn, tmp_path: Path) -> Iterator[Callable[..., DagWorld]]:
    """Servers one after another on the same database and disk."""
    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(dag_world(database, tmp_path, QUICK | more))


async def create(client: LangGraphClient, thread: str | None = None) -> Any:
    return await client.runs.wait(thread, "dag_author", input=words(DEMO))


async def waiting(world: DagWorld) -> bool:
    return await asyncio.to_thread(world.waits_for_a_lock)


async def test_a_server_killed_before_the_branch_moved_leaves_all_as_it_was(start: Callable[..., DagWorld]) -> None:
    world = start()
    client = world.client()
    thread = (await client.threads.create())["thread_id"]
    await create(client, thread)
    before = world.snapshot()
    with psycopg.connect(world.database.libpq_url()) as conn:
        conn.execute(LOCK_PROJECT.encode())
        run = await client.runs.create(thread, "dag_author", input=words(DEMO))
        await until(lambda: waiting(world))
        world.server.kill()
        assert world.snapshot() == before

    # The next server takes the run over from its last checkpoint and finishes it, once.
    world = start()
    client = world.client()
    made: Any = await client.runs.join(thread, run["run_id"])
    await until_status(client, thread, run["run_id"], "success")
    assert made["commit_id"] == world.git("rev-parse", "main")
    assert len(world.rows("user_dags")) == 2
    assert (await client.threads.get(thread))["status"] == "idle"
    listed: Any = await client.runs.wait(thread, "dag_author", input=words("/agent list"))
    assert made["dag_id"] in answer(listed)


async def test_a_create_killed_before_the_branch_moved_can_be_rolled_back(start: Callable[..., DagWorld]) -> None:
    world = start(BG_JOB_MAX_RETRIES="1")
    client = world.client()
    thread = (await client.threads.create())["thread_id"]
    await create(client, thread)
    before = world.snapshot()
    with psycopg.connect(world.database.libpq_url()) as conn:
        conn.execute(LOCK_PROJECT.encode())
        run = await client.runs.create(thread, "dag_author", input=words(DEMO))
        await until(lambda: waiting(world))
        world.server.kill()

    # With no attempt left the run is an error, nothing was written, and the thread takes the next request.
    world = start(BG_JOB_MAX_RETRIES="1")
    client = world.client()
    await until_status(client, thread, run["run_id"], "error")
    assert world.snapshot() == before
    assert (await client.threads.get(thread))["status"] == "error"
    assert (await create(client, thread))["problems"] == []
    assert (await client.threads.get(thread))["status"] == "idle"


async def test_a_server_killed_between_branch_and_commit_is_rolled_forward(start: Callable[..., DagWorld]) -> None:
    world = start()
    client = world.client()
    thread = (await client.threads.create())["thread_id"]
    first = await create(client, thread)
    with psycopg.connect(world.database.libpq_url(), autocommit=True) as conn:
        conn.execute(WAIT_AT_COMMIT.encode())
    with psycopg.connect(world.database.libpq_url()) as conn:
        conn.execute(LOCK_AT_COMMIT.encode())
        run = await client.runs.create(thread, "dag_author", input=words(DEMO))
        await until(lambda: waiting(world))
        assert world.git("rev-parse", "main") != first["commit_id"]
        world.server.kill()
        backends = "pg_stat_activity WHERE application_name = 'heddle-graph' AND wait_event_type = 'Lock'"
        world.ask(f"SELECT count(pg_terminate_backend(pid)) FROM {backends}")
    assert len(world.rows("user_dags")) == 1
    tip = world.git("rev-parse", "main")

    world = start()
    client = world.client()
    made: Any = await client.runs.join(thread, run["run_id"])
    assert made["commit_id"] == tip == world.git("rev-parse", "main")
    assert [row["commit_id"] for row in world.rows("user_dags")] == [first["commit_id"], tip]
    assert [row["commit_id"] for row in world.rows("project_commits")][-2:] == [first["commit_id"], tip]
    assert (await client.threads.get(thread))["status"] == "idle"


@pytest.fixture
def model(start: Callable[..., DagWorld]) -> Iterator[Callable[..., tuple[DagWorld, Service]]]:
    """A server that asks a scripted model service."""
    with ExitStack() as stack:

        def begin(*script: Say, **more: str) -> tuple[DagWorld, Service]:
            service = stack.enter_context(serve(script))
            settings = {"OPENAI_API_BASE": service.url, "OPENAI_API_KEY": KEY, "LOG_LEVEL": "DEBUG"}
            return start(**settings | more), service

        yield begin


async def test_a_model_plans_and_its_progress_is_streamed(
    model: Callable[..., tuple[DagWorld, Service]],
) -> None:
    world, service = model(Say(status=429, retry_after="0.01"), tool(SPEC))
    client = world.client()
    thread = (await client.threads.create())["thread_id"]
    modes: Any = ["custom", "values", "messages-tuple", "updates", "debug"]
    parts = [part async for part in client.runs.stream(thread, "dag_author", input=words(DEMO), stream_mode=modes)]
    steps = [part.data["step"] for part in parts if part.event == "custom"]
    assert steps == ["planning", "validating", "rendering", "checking", "committing", "done"]
    (values,) = [part.data for part in parts if part.event == "values"][-1:]
    assert (values["planner"], values["dag_id"]) == ("model", "orders")
    assert values["commit_id"] == world.git("rev-parse", "main")
    assert service.keys == [f"Bearer {KEY}"] * 2
    state = await client.threads.get_history(thread, limit=100)
    assert KEY not in json.dumps([[str(part.data) for part in parts], state]) + world.server.output()
    assert not world.ask(f"SELECT count(*) FROM heddle.run WHERE kwargs::text || metadata::text LIKE '%{KEY}%'")


async def test_each_fault_of_the_model_is_a_clear_answer_that_writes_nothing(
    model: Callable[..., tuple[DagWorld, Service]],
) -> None:
    faults = [
        (Say(status=401), 1, "model_rejected_key", "OPENAI_API_KEY"),
        (Say(status=429, retry_after="60"), 1, "model_unreachable", "429"),
        (Say(status=500, retry_after="60"), 1, "model_unreachable", "500"),
        (Say(status=400), 1, "model_unreachable", "DAG_AUTHOR_MODEL"),
        (Say(text=json.dumps(SPEC), finish=None), 3, "answer_truncated", "fewer tasks"),
        (Say(refusal="I cannot help with that"), 1, "model_refused", "I cannot help with that"),
        (Say(text="cats are nicer"), 3, "answer_unreadable", "Ask again"),
    ]
    script = [reply for reply, times, _, _ in faults for _ in range(times)]
    world, service = model(*script, tool(SPEC), DAG_AUTHOR_MODEL_TIMEOUT="30")
    client = world.client()
    thread = (await client.threads.create())["thread_id"]
    for _, _, code, said in faults:
        parts = [
            part
            async for part in client.runs.stream(
                thread, "dag_author", input=words(DEMO), stream_mode=["custom", "values"]
            )
        ]
        values = parts[-1].data
        assert values["problems"][0]["code"] == code
        assert "Nothing was created." in answer(values)
        assert "Fix:" in answer(values)
        assert said in answer(values)
        assert [part.data["step"] for part in parts if part.event == "custom"][-1] == "failed"
        assert world.rows("user_dags") == []
        assert KEY not in str(parts)
    assert len(service.requests) == len(script)
    assert not any(world.repositories.glob("*.git/refs/heads/main.lock"))
    made = await create(client, thread)  # the same thread, once the service is well
    assert made["dag_id"] == "orders"
    assert KEY not in world.server.output()
    assert KEY not in json.dumps(await client.threads.get_history(thread, limit=1000))


async def test_a_model_that_says_nothing_can_be_left_and_the_thread_goes_on(
    model: Callable[..., tuple[DagWorld, Service]],
) -> None:
    world, service = model(Say(hang=True), tool(SPEC))
    client = world.client()
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "dag_author", input=words(DEMO))

    async def asked() -> bool:
        return bool(service.requests)

    await until(asked)
    await client.runs.cancel(thread, run["run_id"], wait=True)
    assert (await client.runs.get(thread, run["run_id"]))["status"] == "interrupted"
    assert (await create(client, thread))["dag_id"] == "orders"
