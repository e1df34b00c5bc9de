"""A blocked loop is reported with the name of the culprit."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from heddle_server.graphs.guests import prepare_loop
from heddle_server.graphs.loop_watch import LoopWatch
from tests.support.graphs.worlds import GraphWorld, a_claim

QUICK = {"late": timedelta(milliseconds=50), "period": timedelta(milliseconds=20)}


@pytest.mark.parametrize("modes", [("values",), ("custom",)])
async def test_the_run_and_node_that_block_the_loop_are_named(modes: tuple[str, ...]) -> None:
    prepare_loop(asyncio.get_running_loop(), slots=1)
    world = GraphWorld()
    claim = a_claim("blocker", {"log": [0.5]}, *modes)
    with capture_logs() as logs:
        async with LoopWatch(**QUICK):
            async with asyncio.timeout(5):
                await asyncio.create_task(world.run(claim))

    [report] = [entry for entry in logs if entry["event"] == "loop_blocked"]
    assert (report["run_id"], report["graph_id"], report["node"]) == (str(claim.run_id), "blocker", "blocks")
    assert "samples.py" in report["at"]
    assert report["seconds"] > 0.2


async def test_a_healthy_loop_is_not_reported() -> None:
    world = GraphWorld()
    with capture_logs() as logs:
        async with LoopWatch(late=timedelta(seconds=5), period=timedelta(milliseconds=5)):
            for _ in range(20):
                await world.run(a_claim("sleeper", {"log": [0.01]}))

    assert not [entry for entry in logs if entry["event"] == "loop_blocked"]
