"""Use cases of threads and their state, on a real database."""

from __future__ import annotations

import asyncio
import json

import pytest

from heddle_core.domain.errors import BadRequest, Conflict, NotFound, Unavailable
from heddle_core.domain.ids import ThreadId, new_thread_id
from heddle_core.domain.json import EMPTY_OBJECT, Encoded
from heddle_core.domain.thread import IfExists, Page, Thread, ThreadFilter, ThreadStatus
from heddle_core.ports.graph_runtime import StateUpdate
from heddle_core.ports.signals import Signal, SignalKind
from heddle_core.usecases import state, threads
from heddle_core.usecases.threads import CreateThread
from heddle_server.signals.postgres import PostgresSignals
from tests.support.thread_world import ThreadWorld, world

__all__ = ["world"]

ECHO = Encoded(b'{"graph_id": "echo"}')


async def create(
    world: ThreadWorld,
    thread_id: ThreadId | None = None,
    *,
    metadata: Encoded = EMPTY_OBJECT,
    if_exists: IfExists = IfExists.RAISE,
    supersteps: tuple[tuple[StateUpdate, ...], ...] = (),
) -> Thread:
    wanted = CreateThread(thread_id=thread_id, metadata=metadata, if_exists=if_exists, supersteps=supersteps)
    return await threads.create(world.ports, wanted)


async def test_the_same_id_twice_is_a_conflict_unless_told_to_do_nothing(world: ThreadWorld) -> None:
    first = await create(world, metadata=ECHO)

    with pytest.raises(Conflict, match="already exists"):
        await create(world, first.thread_id)
    again = await create(world, first.thread_id, metadata=Encoded(b'{"other": 1}'), if_exists=IfExists.DO_NOTHING)

    assert again == first


async def test_creates_racing_for_one_id_all_get_the_row(world: ThreadWorld) -> None:
    thread_id = new_thread_id()

    made = await asyncio.gather(*(create(world, thread_id, if_exists=IfExists.DO_NOTHING) for _ in range(8)))

    assert len({thread.created_at for thread in made}) == 1
    assert {thread.thread_id for thread in made} == {thread_id}


async def test_creates_racing_for_one_id_with_raise_have_one_winner(world: ThreadWorld) -> None:
    thread_id = new_thread_id()

    made = await asyncio.gather(*(create(world, thread_id) for _ in range(8)), return_exceptions=True)

    assert sum(isinstance(each, Thread) for each in made) == 1
    assert sum(isinstance(each, Conflict) for each in made) == 7


async def test_a_thread_may_be_born_with_state(world: ThreadWorld) -> None:
    steps = ((StateUpdate(values={"a": 1}, as_node="__input__"),), (StateUpdate(values={"b": 2}, as_node="ask"),))

    made = await create(world, metadata=ECHO, supersteps=steps)

    assert json.loads(made.values or b"null") == {"a": 1, "b": 2}
    assert made.status is ThreadStatus.INTERRUPTED
    assert (await world.rows_of(made.thread_id))["checkpoints"] == 1


async def test_a_thread_whose_state_is_refused_is_not_created(world: ThreadWorld) -> None:
    thread_id = new_thread_id()

    with pytest.raises(BadRequest, match="nowhere does not exist"):
        await create(world, thread_id, metadata=ECHO, supersteps=((StateUpdate(values={}, as_node="nowhere"),),))
    with pytest.raises(BadRequest, match="no graph"):
        await create(world, thread_id, supersteps=((StateUpdate(values={"a": 1}),),))

    with pytest.raises(NotFound):
        await threads.get(world.ports, thread_id)


async def test_an_existing_thread_keeps_its_state_when_created_again(world: ThreadWorld) -> None:
    steps = ((StateUpdate(values={"a": 1}),),)
    made = await create(world, metadata=ECHO, supersteps=steps)

    again = await create(world, made.thread_id, if_exists=IfExists.DO_NOTHING, metadata=ECHO, supersteps=steps)

    assert again == made
    assert (await world.rows_of(made.thread_id))["checkpoints"] == 1


@pytest.mark.parametrize(
    ("limit", "offset", "found", "total"), [(2, 0, 2, 5), (2, 4, 1, 5), (5, 0, 5, 5), (9, 0, 5, 5), (2, 7, 0, 5)]
)
async def test_the_total_is_exact_on_every_page(
    world: ThreadWorld, limit: int, offset: int, found: int, total: int
) -> None:
    for _ in range(5):
        await create(world)

    page = await threads.search(world.ports, ThreadFilter(), Page(limit=limit, offset=offset))

    assert (len(page.threads), page.total) == (found, total)


async def test_deleting_a_thread_stops_what_runs_on_it(world: ThreadWorld) -> None:
    made = await create(world)
    running = await world.a_run(made.thread_id)
    await world.a_run(made.thread_id, "pending")
    await world.a_checkpoint(made.thread_id, run_id=running)

    async with PostgresSignals(world.address.asyncpg_kwargs()) as signals:
        heard = signals.listen()
        await threads.delete(world.ports, made.thread_id)
        async with asyncio.timeout(10):
            assert await anext(heard) == Signal(SignalKind.CANCEL, running)

    assert world.local.stopped == [running]
    assert set((await world.rows_of(made.thread_id)).values()) == {0}
    with pytest.raises(NotFound):
        await threads.delete(world.ports, made.thread_id)


async def test_a_copy_of_nobody_is_not_found(world: ThreadWorld) -> None:
    with pytest.raises(NotFound, match="not found"):
        await threads.copy(world.ports, new_thread_id())


async def test_an_update_changes_the_row_with_the_checkpoints(world: ThreadWorld) -> None:
    made = await create(world, metadata=ECHO)

    checkpoint = await state.update(world.ports, made.thread_id, None, ((StateUpdate(values={"a": 1}),),))

    saved = await threads.get(world.ports, made.thread_id)
    assert json.loads(saved.values or b"null") == {"a": 1}
    assert saved.status is ThreadStatus.IDLE
    stored = await world.sql("SELECT thread_id, checkpoint_id FROM checkpoints")
    assert [tuple(row) for row in stored] == [(str(made.thread_id), checkpoint["checkpoint_id"])]


@pytest.mark.parametrize("status", ["pending", "running"])
async def test_a_state_is_not_updated_beside_a_run(world: ThreadWorld, status: str) -> None:
    made = await create(world, metadata=ECHO)
    await world.a_run(made.thread_id, status)

    with pytest.raises(Conflict, match="run in flight"):
        await state.update(world.ports, made.thread_id, None, ((StateUpdate(values={"a": 1}),),))

    assert world.states.asked == []


async def test_a_graph_that_is_not_served_is_named(world: ThreadWorld) -> None:
    made = await create(world, metadata=Encoded(b'{"graph_id": "gone"}'))

    with pytest.raises(BadRequest, match=r"'gone' .* not served here \(known: echo\)"):
        await state.update(world.ports, made.thread_id, None, ((StateUpdate(),),))


async def test_updates_of_one_thread_follow_each_other(world: ThreadWorld) -> None:
    made = await create(world, metadata=ECHO)

    await asyncio.gather(
        *(state.update(world.ports, made.thread_id, None, ((StateUpdate(values={str(n): n}),),)) for n in range(6))
    )

    saved = await threads.get(world.ports, made.thread_id)
    assert json.loads(saved.values or b"null") == {str(n): n for n in range(6)}


async def test_a_graph_that_takes_for_ever_gives_the_thread_back(world: ThreadWorld) -> None:
    made = await create(world, metadata=ECHO)
    world.states.never_answers = True

    with pytest.raises(Unavailable, match="longer than"):
        await state.update(world.with_limits(state_update=0.05), made.thread_id, None, ((StateUpdate(),),))

    world.states.never_answers = False
    await state.update(world.ports, made.thread_id, None, ((StateUpdate(values={"a": 1}),),))
