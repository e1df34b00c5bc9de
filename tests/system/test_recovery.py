"""What survives the death of a process, and what several processes on one database do for one another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from heddle_server.dsn import Dsn
from tests.support.server import Server, serving
from tests.system.sse import frames
from tests.system.waiting import until, until_status

QUICK = {"HEDDLE_LEASE_SECONDS": "3", "HEDDLE_POLL_SECONDS": "0.5", "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "1"}


class Fleet:
    """Servers on one database."""

    def __init__(self, url: str, folder: Path, stack: ExitStack) -> None:
        self._url, self._folder, self._stack = url, folder, stack

    def start(self, **environment: str) -> Server:
        return self._stack.enter_context(serving(self._url, self._folder, environment=QUICK | environment))


@pytest.fixture
def fleet(database: Dsn, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(database.libpq_url(), tmp_path, stack)


def client_of(server: Server) -> LangGraphClient:
    return get_client(url=server.url, api_key=None)


async def state_of(client: LangGraphClient, thread: str) -> Any:
    return (await client.threads.get_state(thread))["values"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_a_run_whose_process_was_killed_is_finished_by_another(
    fleet: Fleet, tmp_path: Path, durability: Any
) -> None:
    first = fleet.start()
    client = client_of(first)
    thread = (await client.threads.create())["thread_id"]
    gate = tmp_path / "gate"
    await client.runs.wait(thread, "steps", input={"left": 3})
    run = await client.runs.create(thread, "steps", input={"left": 3, "gate": str(gate)}, durability=durability)
    await until_status(client, thread, run["run_id"], "running")
    first.kill()

    second = client_of(fleet.start())
    gate.touch()
    result: Any = await second.runs.join(thread, run["run_id"])
    assert result["done"] == [3, 2, 1, 3, 2, 1]
    assert (await second.runs.get(thread, run["run_id"]))["status"] == "success"
    assert (await second.threads.get(thread))["status"] == "idle"


async def test_a_killed_run_goes_on_from_its_last_checkpoint_not_from_the_start(fleet: Fleet, tmp_path: Path) -> None:
    first = fleet.start()
    client = client_of(first)
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread, "steps", input={"left": 1000, "pause": 0.01}, durability="sync", config={"recursion_limit": 2000}
    )

    async def is_under_way() -> bool:
        return len((await state_of(client, thread)).get("done", [])) > 20

    await until(is_under_way)
    before = (await state_of(client, thread))["done"]
    first.kill()

    second = client_of(fleet.start())
    await until(lambda: grows_beyond(second, thread, len(before)))
    after = (await state_of(second, thread))["done"]
    assert after[: len(before)] == before
    assert after == list(range(1000, 1000 - len(after), -1))
    await second.runs.cancel(thread, run["run_id"], wait=True)


async def grows_beyond(client: LangGraphClient, thread: str, length: int) -> bool:
    return len((await state_of(client, thread)).get("done", [])) > length


async def test_an_answer_given_before_the_kill_is_not_taken_for_the_next_question(fleet: Fleet) -> None:
    first = fleet.start()
    client = client_of(first)
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "ask", input={})
    await client.runs.create(thread, "ask", command={"resume": "r1"})
    first.kill()

    second = client_of(fleet.start())

    async def asked_again() -> bool:
        row = await second.threads.get(thread)
        return row["status"] == "interrupted" and "second?" in str(row["interrupts"])

    await until(asked_again)
    done: Any = await second.runs.wait(thread, "ask", command={"resume": "r2"})
    assert done["log"] == ["before", "r1", "r2", "after"]


async def test_a_process_that_slept_through_its_lease_writes_nothing(fleet: Fleet, tmp_path: Path) -> None:
    first, second = fleet.start(), fleet.start()
    client, other = client_of(first), client_of(second)
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread, "steps", input={"left": 150, "pause": 0.02}, config={"recursion_limit": 1000}
    )
    await until_status(client, thread, run["run_id"], "running")
    first.pause()
    result: Any = await other.runs.join(thread, run["run_id"])
    history = await other.threads.get_history(thread, limit=1000)
    first.resume()

    async def noticed() -> bool:
        return "run_given_up" in first.output() or "lease" in first.output()

    await until(noticed)
    assert result["done"] == list(range(150, 0, -1))
    assert await other.threads.get_history(thread, limit=1000) == history


async def test_a_run_that_keeps_killing_its_process_is_given_up(fleet: Fleet, tmp_path: Path) -> None:
    thread = run_id = ""
    for attempt in range(2):
        server = fleet.start(BG_JOB_MAX_RETRIES="2")
        client = client_of(server)
        if not attempt:
            thread = (await client.threads.create())["thread_id"]
            run_id = (await client.runs.create(thread, "steps", input={"left": 1, "gate": str(tmp_path / "no")}))[
                "run_id"
            ]
        await until(lambda client=client: running_for(client, thread, run_id, attempt + 1))  # type: ignore[misc]
        server.kill()
    client = client_of(fleet.start(BG_JOB_MAX_RETRIES="2"))
    await until_status(client, thread, run_id, "error")
    assert (await client.threads.get(thread))["status"] == "error"
    assert await client.runs.wait(thread, "line", input={}) is not None


async def running_for(client: LangGraphClient, thread: str, run_id: str, attempt: int) -> bool:
    async with client.http.client.stream("GET", f"/threads/{thread}/runs/{run_id}/stream") as response:
        async for frame in frames(response):
            return bool(frame.event == "metadata" and frame.data["attempt"] == attempt)
    return False


async def test_a_cancel_reaches_a_run_in_another_process(fleet: Fleet, tmp_path: Path) -> None:
    first, second = fleet.start(), fleet.start()
    client, other = client_of(first), client_of(second)
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "steps", input={"left": 1, "gate": str(tmp_path / "never")})
    await until_status(other, thread, run["run_id"], "running")
    async with asyncio.timeout(2):
        await other.runs.cancel(thread, run["run_id"], wait=True)
    assert (await client.runs.get(thread, run["run_id"]))["status"] == "interrupted"


async def test_wait_and_stream_end_right_in_a_process_that_does_not_execute_the_run(
    fleet: Fleet, tmp_path: Path
) -> None:
    first, second = fleet.start(), fleet.start()
    client, other = client_of(first), client_of(second)
    thread = (await client.threads.create())["thread_id"]
    gate = tmp_path / "gate"
    run = await client.runs.create(thread, "steps", input={"left": 2, "gate": str(gate)})
    await until_status(other, thread, run["run_id"], "running")
    join = asyncio.create_task(other.runs.join(thread, run["run_id"]))
    path = f"/threads/{thread}/runs/{run['run_id']}/stream"
    async with other.http.client.stream("GET", path) as response:
        reader = frames(response)
        opening = await anext(reader)
        gate.touch()
        rest = [frame async for frame in reader]
    assert (opening.event, opening.data["run_id"]) == ("metadata", run["run_id"])
    assert [frame.event for frame in rest] == ["values"]
    assert rest[0].data["done"] == [2, 1]
    assert (await join)["done"] == [2, 1]


async def test_a_full_process_leaves_its_runs_to_others(fleet: Fleet, tmp_path: Path) -> None:
    first, second = fleet.start(N_JOBS_PER_WORKER="1"), fleet.start()
    client = client_of(first)
    gate = str(tmp_path / "gate")
    started = []
    for _ in range(3):
        thread = (await client.threads.create())["thread_id"]
        started.append((thread, (await client.runs.create(thread, "steps", input={"left": 1, "gate": gate}))["run_id"]))
    for thread, run_id in started:
        await until_status(client_of(second), thread, run_id, "running")
    (tmp_path / "gate").touch()
    for thread, run_id in started:
        assert (await client.runs.join(thread, run_id))["done"] == [1]


async def test_a_stopping_process_lets_runs_finish_and_gives_back_the_rest(fleet: Fleet, tmp_path: Path) -> None:
    first = fleet.start()
    client = client_of(first)
    threads = [(await client.threads.create())["thread_id"] for _ in range(2)]
    gate = tmp_path / "gate"
    quick = await client.runs.create(threads[0], "steps", input={"left": 1, "pause": 0.3})
    slow = await client.runs.create(threads[1], "steps", input={"left": 2, "gate": str(gate)})
    await until_status(client, threads[1], slow["run_id"], "running")
    assert first.stop() == 0

    second = client_of(fleet.start())
    assert (await second.runs.get(threads[0], quick["run_id"]))["status"] == "success"
    gate.touch()
    assert (await second.runs.join(threads[1], slow["run_id"]))["done"] == [2, 1]


@pytest.mark.parametrize("isolated", ["true", "false"])
async def test_a_synchronous_node_that_still_sleeps_does_not_hold_up_the_stop(fleet: Fleet, isolated: str) -> None:
    now = {"BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "0", "BG_JOB_ISOLATED_LOOPS": isolated}
    first = fleet.start(**now)
    client = client_of(first)
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "sleepy", input={"value": 15})
    await client.runs.wait(None, "fail", input={})  # it came later and has a synchronous node, too: the other sleeps
    began = time.monotonic()
    assert await asyncio.to_thread(first.stop) == 0
    assert time.monotonic() - began < 3
    assert "Traceback" not in first.output()

    second = client_of(fleet.start(**now))
    await until_status(second, thread, run["run_id"], "running")


async def test_two_creates_of_one_thread_over_two_processes_agree(fleet: Fleet) -> None:
    clients = [client_of(fleet.start()), client_of(fleet.start())]
    thread = "0198aaaa-0000-7000-8000-000000000001"
    made = await asyncio.gather(
        *(clients[n % 2].threads.create(thread_id=thread, if_exists="do_nothing") for n in range(10))
    )
    assert {row["thread_id"] for row in made} == {thread}
    with pytest.raises(APIStatusError):
        await clients[0].threads.create(thread_id=thread)


@pytest.mark.parametrize(("graph", "given"), [("line", {}), ("fail", {"value": "value"})])
async def test_a_stateless_run_executed_by_another_process_answers_who_waits(
    fleet: Fleet, tmp_path: Path, graph: str, given: Any
) -> None:
    full, other = fleet.start(N_JOBS_PER_WORKER="1"), fleet.start()
    client = client_of(full)
    thread = (await client.threads.create())["thread_id"]
    blocker = await client.runs.create(thread, "steps", input={"left": 1, "gate": str(tmp_path / "gate")})
    await until_status(client, thread, blocker["run_id"], "running")
    answer: Any = await client.runs.wait(None, graph, input=given, raise_error=False)
    streamed = [part.event async for part in client.runs.stream(None, graph, input=given, stream_mode="values")]
    if graph == "line":
        assert answer == {"log": ["one", "two"]}
        assert streamed == ["metadata", "values"]
    else:
        assert answer["__error__"]["error"] == "ValueError"
        assert streamed[-1] == "error"
    assert other.process.poll() is None
    (tmp_path / "gate").touch()
