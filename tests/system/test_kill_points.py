"""A process killed at each point of a run's life, for each way a run can begin: the next process makes it as if
nothing had happened, or as if the run had never been asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from heddle_server.dsn import Dsn
from tests.support.server import Server, serving
from tests.system.holding import held
from tests.system.waiting import until

QUICK = {"HEDDLE_LEASE_SECONDS": "3", "HEDDLE_POLL_SECONDS": "0.5", "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a run begins. `early` and `late`: the nodes it is held at, before and after its first own checkpoint."""

    graph: str
    early: str
    late: str
    asked_before: bool = False  # the thread waits for an answer when the run begins
    body: dict[str, Any] = field(default_factory=dict)


WAYS = {
    "input": Way(graph="asking", early="first", late="ask", body={"input": {"log": ["in"]}}),
    "resume": Way(graph="asking", early="ask", late="third", asked_before=True, body={"command": {"resume": "yes"}}),
    "resume map": Way(
        graph="asking_two", early="ask", late="third", asked_before=True, body={"command": {"resume": "by id"}}
    ),
    "update and goto": Way(
        graph="straight",
        early="second",
        late="third",
        asked_before=True,
        body={"command": {"update": {"log": ["told"]}, "goto": "second"}},
    ),
    "jump past a question": Way(
        graph="asking",
        early="",
        late="",
        asked_before=True,
        body={"command": {"update": {"log": ["told"]}, "goto": "second"}},
    ),
    "interrupt before": Way(
        graph="straight", early="first", late="second", body={"input": {}, "interrupt_before": ["third"]}
    ),
    "interrupt after": Way(
        graph="straight", early="first", late="second", body={"input": {}, "interrupt_after": ["second"]}
    ),
    "subgraph": Way(graph="nested", early="ask", late="third", asked_before=True, body={"command": {"resume": "deep"}}),
    # A node with two questions, resumed once: after the kill the second one must be asked, not answered.
    "two questions": Way(graph="ask", early="", late="", asked_before=True, body={"command": {"resume": "one"}}),
}


@dataclass(slots=True)
class Ride:
    """A run to be killed, and what the same run came to on a thread that nobody disturbed."""

    way: Way
    thread: str
    before: Any
    expected: Any
    run: str = ""


def client_of(server: Server) -> LangGraphClient:
    return get_client(url=server.url, api_key=None)


@pytest.fixture
def start(database: Dsn, tmp_path: Path) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(serving(database.libpq_url(), tmp_path, environment=QUICK))


async def picture(client: LangGraphClient, thread: str) -> Any:
    """What a user can see of a thread, without ids and times."""
    state, row = await client.threads.get_state(thread), await client.threads.get(thread)
    questions = sorted(str(each["value"]) for each in state["interrupts"])
    shown = sorted(str(each["value"]) for waiting in row["interrupts"].values() for each in waiting)
    assert questions == shown
    assert row["values"] == (state["values"] or None)
    return {"values": state["values"], "next": sorted(state["next"]), "asks": questions, "status": row["status"]}


async def body_of(client: LangGraphClient, thread: str, way: Way) -> dict[str, Any]:
    if way.body.get("command") != {"resume": "by id"}:
        return dict(way.body)
    waiting = (await client.threads.get_state(thread))["interrupts"]
    answers = {each["id"]: f"to {each['value']['question']}" for each in waiting}
    assert len(answers) == 2
    return {"command": {"resume": answers}}


async def prepare(client: LangGraphClient, ways: list[Way]) -> list[Ride]:
    async def one(way: Way) -> Ride:
        disturbed, quiet = [(await client.threads.create())["thread_id"] for _ in range(2)]
        for thread in (disturbed, quiet):
            if way.asked_before:
                await client.runs.wait(thread, way.graph, input={})
            else:
                await client.runs.wait(thread, "line", input={})
        before = await picture(client, disturbed)
        await client.runs.wait(quiet, way.graph, **await body_of(client, quiet, way))
        return Ride(way, disturbed, before, await picture(client, quiet))

    return list(await asyncio.gather(*(one(way) for way in ways)))


async def depart(client: LangGraphClient, ride: Ride, gate: Path | None, node: str = "", **more: Any) -> None:
    config: Any = {"configurable": {f"gate_{node}": f"{gate}-{ride.thread}"}} if gate else None
    body = await body_of(client, ride.thread, ride.way)
    run = await client.runs.create(ride.thread, ride.way.graph, config=config, **body, **more)
    ride.run = run["run_id"]


async def arrive(client: LangGraphClient, rides: list[Ride]) -> None:
    """Every run has ended once, and its thread shows what the undisturbed one shows."""
    for ride in rides:
        await client.runs.join(ride.thread, ride.run)
        run = await client.runs.get(ride.thread, ride.run)
        assert run["status"] == "success", ride
        assert await picture(client, ride.thread) == ride.expected, ride


@pytest.mark.parametrize(
    ("where", "durability"), [("early", "async"), ("late", "sync"), ("late", "async"), ("late", "exit")]
)
async def test_killed_inside_a_node(start: Any, tmp_path: Path, where: str, durability: Any) -> None:
    """`early`: answers and jumps are still held back. `late`: the run has checkpoints of its own (not with exit)."""
    server = start()
    client = client_of(server)
    rides = await prepare(client, [way for way in WAYS.values() if way.early])
    gate = tmp_path / "gate"
    for ride in rides:
        await depart(client, ride, gate, getattr(ride.way, where), durability=durability)

    async def all_held() -> bool:
        return all(Path(f"{gate}-{ride.thread}.reached").exists() for ride in rides)

    await until(all_held)
    server.kill()
    for ride in rides:
        Path(f"{gate}-{ride.thread}").touch()
    await arrive(client_of(start()), rides)


@pytest.mark.parametrize("place", ["flush", "close"])
@pytest.mark.parametrize("ending", ["break_off", "let_go"])
async def test_killed_while_the_database_writes(start: Any, database: Dsn, place: str, ending: str) -> None:
    """What was being written is undone, or is stored although nobody hears of it."""
    server = start()
    client = client_of(server)
    rides = await prepare(client, list(WAYS.values()))
    with held(database, place) as statements:
        for ride in rides:
            await depart(client, ride, None)
        await statements.reached()
        server.kill()
        getattr(statements, ending)()
    await arrive(client_of(start()), rides)


@pytest.mark.parametrize("ending", ["break_off", "let_go"])
async def test_killed_before_the_caller_hears_of_the_run(start: Any, database: Dsn, ending: str) -> None:
    """The run never was, or is there and is executed: nothing in between."""
    server = start()
    client = client_of(server)
    rides = await prepare(client, list(WAYS.values()))
    with held(database, "open") as statements:
        calls = [asyncio.create_task(depart(client, ride, None)) for ride in rides]
        await statements.reached()
        server.kill()
        getattr(statements, ending)()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, httpx.TransportError)
    client = client_of(start())
    for ride in rides:
        runs = await client.runs.list(ride.thread)
        if len(runs) == 1:  # only the one of before
            assert await picture(client, ride.thread) == ride.before
            await depart(client, ride, None)
        else:
            ride.run = runs[0]["run_id"]
    assert ending == "let_go" or all(ride.run for ride in rides)
    await arrive(client, rides)
