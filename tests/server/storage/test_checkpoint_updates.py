"""State updates: buffered in a ledger without a claim, written by whoever owns the thread."""

from __future__ import annotations

from uuid import uuid4

import pytest
from langgraph.graph import END
from langgraph.types import StateUpdate

from heddle_server.storage.checkpoints import LEDGER_KEY
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.rows import WRITE_ROWS
from tests.server.storage.test_checkpoint_runs import asker, counter, nested, run_and_close
from tests.support.checkpoint_world import CheckpointWorld, config_on


async def test_a_state_update_is_buffered_whole_and_written_by_whoever_owns_the_thread(
    world: CheckpointWorld,
) -> None:
    thread, graph = uuid4(), nested(asker(1).compile()).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": ["start"]})
    before = await world.rows("checkpoints", thread)

    ledger = Ledger.detached(thread)
    config = config_on(thread, **{LEDGER_KEY: ledger})
    first = await graph.aupdate_state(config, {"notes": ["edited"]}, as_node="before")
    second = await graph.abulk_update_state(
        first, [[StateUpdate({"notes": ["bulk"]}, "inner")], [StateUpdate({"count": 7}, "inner")]]
    )
    expected = {"notes": ["start", "edited", "bulk"], "count": 7}
    assert (await graph.aget_state(second)).values == expected
    assert (await graph.aget_state(config)).values == expected
    assert (await graph.aget_state(first)).values["notes"] == ["start", "edited"]
    history = [found async for found in graph.aget_state_history(config)]
    assert len(history) == len({found.config["configurable"]["checkpoint_id"] for found in history})
    assert history[0].values == expected
    assert await world.rows("checkpoints", thread) == before
    assert ledger.head == second["configurable"]["checkpoint_id"]

    await world.pool.execute(WRITE_ROWS, [ledger.run_id], *ledger.take_tail().parameters())
    assert (await graph.aget_state(config_on(thread))).values == expected
    assert await world.rows("checkpoints", thread) == before + 3


@pytest.mark.parametrize("as_node", [END, "__copy__"])
async def test_clearing_and_forking_are_buffered_as_well(world: CheckpointWorld, as_node: str) -> None:
    thread, graph = uuid4(), counter(2).compile(world.saver)
    await run_and_close(world, graph, thread, {"notes": ["start"]})
    before = [await world.rows(table, thread) for table in ("checkpoints", "checkpoint_writes")]
    ledger = Ledger.detached(thread)
    await graph.aupdate_state(config_on(thread, **{LEDGER_KEY: ledger}), None, as_node=as_node)
    assert [await world.rows(table, thread) for table in ("checkpoints", "checkpoint_writes")] == before
    await world.pool.execute(WRITE_ROWS, [ledger.run_id], *ledger.take_tail().parameters())
    assert await world.rows("checkpoints", thread) == before[0] + 1
