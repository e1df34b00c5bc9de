"""Runs that are stopped, taken back or deleted at an awkward moment leave a thread that says the truth and goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from heddle_server.dsn import Dsn
from tests.support.server import Server, serving
from tests.system.holding import held
from tests.system.waiting import until, until_status


async def new_thread(client: LangGraphClient) -> str:
    return str((await client.threads.create())["thread_id"])


async def look(client: LangGraphClient, thread: str) -> Any:
    """Everything a client can read of a thread, times of the row aside."""
    row: Any = dict(await client.threads.get(thread))
    del row["updated_at"], row["state_updated_at"]
    state = await client.threads.get_state(thread, subgraphs=True)
    return row, state, await client.threads.get_history(thread, limit=100)


async def hold(
    client: LangGraphClient, thread: str, graph: str, gate: Path, node: str, **body: Any
) -> tuple[str, Path]:
    """Start a run and wait until it stands at the door of `node`."""
    config = {"configurable": {f"gate_{node}": str(gate), "told": f"{gate}.told"}}
    run = await client.runs.create(thread, graph, config=config, **body)
    reached = Path(f"{gate}.reached")

    async def there() -> bool:
        return reached.exists()

    await until(there)
    return run["run_id"], gate


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_a_cancel_in_mid_step_keeps_what_the_finished_sibling_did(
    client: LangGraphClient, tmp_path: Path, durability: Any
) -> None:
    thread = await new_thread(client)
    run, gate = await hold(
        client, thread, "siblings", tmp_path / "gate", "slow", input={"log": ["in"]}, durability=durability
    )
    told = Path(f"{gate}.told")

    async def quick_ended() -> bool:
        return told.exists()

    await until(quick_ended)
    await client.runs.cancel(thread, run, wait=True)
    assert (await client.runs.get(thread, run))["status"] == "interrupted"
    assert (await client.threads.get(thread))["status"] == "interrupted"
    gate.touch()
    config: Any = {"configurable": {"told": str(told)}}
    done: Any = await client.runs.wait(thread, "siblings", input=None, config=config)
    assert done["log"] == ["in", "quick", "slow", "last"]
    assert told.read_text() == "ran\n"
    assert (await client.threads.get(thread))["status"] == "idle"


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_a_stubborn_node_and_a_second_cancel_change_nothing(
    client: LangGraphClient, tmp_path: Path, action: Any
) -> None:
    thread = await new_thread(client)
    await client.runs.wait(thread, "stubborn", input={})
    before = await look(client, thread)
    run, _ = await hold(client, thread, "stubborn", tmp_path / "never", "stubborn", input={})
    await client.runs.cancel(thread, run, action=action)
    with suppress(APIStatusError):  # the run may be over by now
        await client.runs.cancel(thread, run, action=action, wait=True)

    async def settled() -> bool:
        return (await client.threads.get(thread))["status"] != "busy"

    await until(settled)
    runs = {each["run_id"]: each["status"] for each in await client.runs.list(thread)}
    if action == "rollback":
        assert run not in runs
        row, state, history = await look(client, thread)
        assert (row["status"], row["values"], state, history) == ("idle", before[0]["values"], *before[1:])
    else:
        # A graph that came to its end all the same has succeeded, and its state is whole.
        state = await client.threads.get_state(thread)
        assert runs[run] == ("interrupted" if state["next"] else "success")
        assert state["next"] or state["values"]["log"] == ["stubborn", "last"] * 2
        assert (await client.threads.get(thread))["status"] == ("interrupted" if state["next"] else "idle")
    assert (await client.runs.wait(thread, "line", input={}))["log"][-2:] == ["one", "two"]


async def test_a_rollback_outranks_an_interrupt_that_is_still_under_way(
    client: LangGraphClient, tmp_path: Path
) -> None:
    thread = await new_thread(client)
    run, _ = await hold(client, thread, "stubborn", tmp_path / "never", "stubborn", input={})
    await client.runs.cancel(thread, run)
    await client.runs.cancel(thread, run, action="rollback", wait=True)
    assert await client.runs.list(thread) == []
    assert await client.threads.get_history(thread) == []


async def first(client: LangGraphClient, thread: str) -> None:
    """Nothing ran here yet."""


async def asked(client: LangGraphClient, thread: str) -> None:
    await client.runs.wait(thread, "asking", input={})


async def asked_inside(client: LangGraphClient, thread: str) -> None:
    await client.runs.wait(thread, "nested", input={})


async def finished(client: LangGraphClient, thread: str) -> None:
    await client.runs.wait(thread, "straight", input={"value": "x" * 5000})


async def forked(client: LangGraphClient, thread: str) -> None:
    """Two branches whose checkpoints have blobs in common."""
    await finished(client, thread)
    base = (await client.threads.get_history(thread))[1]["checkpoint"]
    await client.threads.update_state(thread, None, as_node="__copy__", checkpoint=base)


TAKEN_BACK = [
    pytest.param(first, "straight", "second", {"input": {}}, id="a first run"),
    pytest.param(finished, "straight", "third", {"input": {"log": ["more"]}}, id="a second run"),
    pytest.param(asked, "asking", "third", {"command": {"resume": "yes"}}, id="a resume"),
    pytest.param(asked, "asking", "ask", {"command": {"resume": "yes"}}, id="a resume before its first checkpoint"),
    pytest.param(asked_inside, "nested", "third", {"command": {"resume": "deep"}}, id="a resume inside a subgraph"),
    pytest.param(first, "nested", "ask", {"input": {}}, id="a run with a subgraph"),
    pytest.param(forked, "straight", "third", {"input": {"log": ["more"]}}, id="a run on a fork"),
    pytest.param(asked, "asking", "second", {"command": {"goto": "second", "update": {"log": [1]}}}, id="a jump"),
]


@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize(("prepare", "graph", "node", "body"), TAKEN_BACK)
async def test_a_run_that_is_taken_back_was_never_there(
    client: LangGraphClient, tmp_path: Path, prepare: Any, graph: str, node: str, body: Any, durability: Any
) -> None:
    """State, history and what comes next are as before, and the same run then ends as on an untouched thread."""
    thread, untouched = await new_thread(client), await new_thread(client)
    for each in (thread, untouched):
        await prepare(client, each)
    row, state, history = await look(client, thread)
    run, _ = await hold(client, thread, graph, tmp_path / "never", node, durability=durability, **body)
    await client.runs.cancel(thread, run, action="rollback", wait=True)
    row_after, state_after, history_after = await look(client, thread)
    assert (state_after, history_after) == (state, history)
    for field in ("status", "values", "interrupts"):
        assert row_after[field] == row[field] or (prepare is first and field == "values" and not row_after[field])

    again: Any = await client.runs.wait(thread, graph, **body)
    there: Any = await client.runs.wait(untouched, graph, **body)
    assert again.get("log") == there.get("log")
    assert [each["value"] for each in again.get("__interrupt__", [])] == [
        each["value"] for each in there.get("__interrupt__", [])
    ]


@contextmanager
def alone(database: Dsn, folder: Path, **environment: str) -> Iterator[tuple[Server, LangGraphClient]]:
    with serving(database.libpq_url(), folder, environment=environment) as server:
        yield server, get_client(url=server.url, api_key=None)


@pytest.mark.parametrize("place", ["open", "close"])
@pytest.mark.parametrize("leaving", ["continue", "cancel"])
async def test_a_caller_that_leaves_while_the_database_writes_leaves_no_stuck_thread(
    database: Dsn, tmp_path: Path, place: str, leaving: str
) -> None:
    with alone(database, tmp_path) as (server, client):
        thread = await new_thread(client)
        with held(database, place) as statements:
            body = {"assistant_id": "line", "input": {}, "on_disconnect": leaving}
            async with httpx.AsyncClient(base_url=server.url) as http:
                call = asyncio.create_task(http.post(f"/threads/{thread}/runs/wait", json=body))
                await statements.reached()
                call.cancel()
                with suppress(asyncio.CancelledError):
                    await call
            statements.let_go()

            async def over() -> bool:
                runs = await client.runs.list(thread)
                return all(run["status"] in ("success", "interrupted") for run in runs)

            await until(over)
        await agrees(client, thread)
        assert (await client.runs.wait(thread, "line", input={}))["log"][-2:] == ["one", "two"]
        assert "Traceback" not in server.output()


async def agrees(client: LangGraphClient, thread: str) -> None:
    """The row of a thread is what its runs and its newest checkpoint say."""
    row, runs = await client.threads.get(thread), await client.runs.list(thread, limit=1000)
    state = await client.threads.get_state(thread)
    assert [run for run in runs if run["status"] in ("pending", "running")] == []
    waiting = "interrupted" if state["next"] else "idle"
    # A run that ended by a failure says so until the next one, or until it is deleted.
    assert row["status"] in ({waiting, "error"} if any(run["status"] == "error" for run in runs) else {waiting})
    assert (row["status"] == "error") == (row.get("error") is not None)
    assert (row["values"] or {}) == state["values"]
    shown = [each["id"] for asks in row["interrupts"].values() for each in asks]
    assert sorted(shown) == sorted(each["id"] for each in state["interrupts"])


async def _anything(client: LangGraphClient, thread: str, dice: random.Random) -> None:
    """One thing a client may do to a thread that others use too."""
    strategy: Any = dice.choice(["enqueue", "interrupt", "rollback", "reject"])
    runs = [run["run_id"] for run in await client.runs.list(thread, limit=100)]
    graph, given = dice.choice(
        [
            ("straight", {"log": ["in"]}),
            ("asking", {"log": ["in"]}),
            ("nested", {"log": ["in"]}),
            ("fail", {"value": "value"}),
            ("fail", {"value": "exit"}),
            ("siblings", {"log": ["in"]}),
        ]
    )
    match dice.choice(["run", "run", "run", "wait", "resume", "cancel", "cancel", "delete", "stream", "update"]):
        case "run":
            later: Any = dice.choice([None, None, 0.05])
            await client.runs.create(
                thread,
                graph,
                input=given,
                multitask_strategy=strategy,
                after_seconds=later,
            )
        case "wait":
            await client.runs.wait(thread, graph, input=given, multitask_strategy=strategy, raise_error=False)
        case "resume":
            await client.runs.create(thread, "asking", command={"resume": "r"}, multitask_strategy=strategy)
        case "cancel" if runs:
            action: Any = dice.choice(["interrupt", "rollback"])
            await client.runs.cancel(thread, dice.choice(runs), action=action, wait=dice.random() < 0.5)
        case "delete" if runs:
            await client.runs.delete(thread, dice.choice(runs))
        case "stream":
            async for _ in client.runs.stream(thread, graph, input=given, on_disconnect="cancel"):
                if dice.random() < 0.3:
                    break
        case "update":
            await client.threads.update_state(thread, {"log": ["told"]})


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
async def test_whatever_several_clients_do_to_a_thread_it_settles_and_says_the_truth(
    server: Server, client: LangGraphClient, seed: int
) -> None:
    thread = await new_thread(client)
    await client.runs.wait(thread, "straight", input={})
    refused: set[int] = set()

    async def one(number: int) -> None:
        dice = random.Random(seed * 100 + number)
        async with get_client(url=server.url, api_key=None) as mine:
            for _ in range(12):
                try:
                    await _anything(mine, thread, dice)
                except (APIStatusError, httpx.HTTPStatusError) as problem:
                    refused.add(problem.response.status_code)

    async with asyncio.timeout(60):
        await asyncio.gather(*(one(number) for number in range(4)))
    # A run that was enqueued may still be on its way.

    async def quiet() -> bool:
        return (await client.threads.get(thread))["status"] != "busy"

    await until(quiet)
    assert refused <= {400, 404, 409}
    await agrees(client, thread)
    done: Any = await client.runs.wait(thread, "line", input={})
    assert done["log"][-2:] == ["one", "two"]
    await agrees(client, thread)


async def test_two_hundred_streams_at_once_all_end_right(database: Dsn, tmp_path: Path) -> None:
    with alone(database, tmp_path, N_JOBS_PER_WORKER="100") as (server, client):

        async def one(number: int) -> None:
            thread: Any = None if number % 2 else await new_thread(client)
            seen = [
                part
                async for part in client.runs.stream(
                    thread,
                    "line",
                    input={"log": [number]},
                    stream_mode=["values", "updates"],
                )
            ]
            assert seen[0].event == "metadata"
            assert seen[-1].data == {"log": [number, "one", "two"]}
            assert [part.data for part in seen if part.event == "updates"] == [
                {"one": {"log": ["one"]}},
                {"two": {"log": ["two"]}},
            ]

        async with asyncio.timeout(30):
            await asyncio.gather(*(one(number) for number in range(200)))
        for word in ("Traceback", "[error", '"level":"error"', "loop_blocked"):
            assert word not in server.output()
        assert await client.threads.count(status="busy") == 0


async def test_a_run_that_waits_for_its_turn_can_be_cancelled_from_anywhere(
    client: LangGraphClient, server: Server, tmp_path: Path
) -> None:
    thread = await new_thread(client)
    run, gate = await hold(client, thread, "straight", tmp_path / "gate", "first", input={})
    queued = [(await client.runs.create(thread, "line", input={}))["run_id"] for _ in range(3)]
    async with get_client(url=server.url, api_key=None) as other:
        await other.runs.cancel(thread, queued[1])
    gate.touch()
    for each, status in [(run, "success"), (queued[0], "success"), (queued[1], "interrupted"), (queued[2], "success")]:
        await until_status(client, thread, each, status)
    await agrees(client, thread)
