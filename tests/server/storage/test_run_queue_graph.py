"""The queue and the checkpointer together, under a real graph."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from heddle_core.domain.json import Encoded
from heddle_core.domain.run import CancelAction, Outcome
from heddle_core.domain.thread import StateSummary
from heddle_core.ports.run_queue import Claim
from heddle_server.storage.checkpoints import PostgresSaver
from heddle_server.storage.flusher import Flusher
from tests.support.queue_world import QueueWorld, new_run


async def say(state: MessagesState) -> dict[str, Any]:
    return {"messages": [("ai", "hello")]}


async def ask(state: MessagesState) -> dict[str, Any]:
    return {"messages": [("ai", f"you said {interrupt('sure?')}")]}


@asynccontextmanager
async def graph(world: QueueWorld, node: Any) -> AsyncIterator[Any]:
    async with Flusher(world.database.pool) as flusher:
        builder = StateGraph(MessagesState)
        builder.add_node("node", node)
        builder.add_edge(START, "node")
        builder.add_edge("node", END)
        yield builder.compile(checkpointer=PostgresSaver(world.database.pool, flusher))


def config(claim: Claim) -> dict[str, Any]:
    return {
        "configurable": {
            "thread_id": str(claim.thread_id),
            "run_id": str(claim.run_id),
            "__heddle_claim": claim.ledger,
        }
    }


async def summary(compiled: Any, claim: Claim) -> StateSummary:
    state = await compiled.aget_state(config(claim))
    return StateSummary(
        values=Encoded(orjson.dumps({"n": len(state.values["messages"])})),
        has_next=bool(state.next),
        checkpoint_id=state.config["configurable"]["checkpoint_id"],
    )


TURN = {"messages": [("human", "hi")]}


async def test_turns_of_a_thread_are_two_statements_each_and_build_on_one_another(queued: QueueWorld) -> None:
    first = new_run()
    commits = []
    async with graph(queued, say) as compiled:
        for turn in range(1, 9):
            before = await queued.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
            claim = await queued.opened(new_run(first.thread_id))
            await compiled.ainvoke(TURN, config(claim))
            state = await summary(compiled, claim)
            assert (await queued.queue.finish(claim, Outcome.success(), state)).held
            after = await queued.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
            commits.append(after - before)
            assert orjson.loads((await queued.thread_row(first.thread_id))["values"]) == {"n": 2 * turn}
            assert (await queued.run_row(claim.run_id))["head_checkpoint_id"] == state.checkpoint_id
    # The counter is the server's: tests beside this one can only add to it.
    assert min(commits) == 2


async def test_a_resume_that_is_rolled_back_leaves_the_question_open(queued: QueueWorld) -> None:
    first = new_run()
    async with graph(queued, ask) as compiled:
        claim = await queued.opened(first)
        await compiled.ainvoke(TURN, config(claim))
        await queued.queue.finish(claim, Outcome.success(), await summary(compiled, claim))
        stored = await rows(queued)
        assert (await queued.thread_row(first.thread_id))["status"] == "interrupted"

        wrong = await queued.opened(new_run(first.thread_id))
        await compiled.ainvoke(Command(resume="no"), config(wrong))
        await queued.queue.finish(wrong, Outcome.released(), None)
        (again,) = await queued.claimed()
        await compiled.ainvoke(None if again.already_started else Command(resume="no"), config(again))
        await queued.queue.finish(again, Outcome.cancelled(CancelAction.ROLLBACK), None)
        assert await rows(queued) == stored
        assert (await queued.thread_row(first.thread_id))["status"] == "interrupted"

        right = await queued.opened(new_run(first.thread_id))
        ended = await compiled.ainvoke(Command(resume="yes"), config(right))
        assert ended["messages"][-1].content == "you said yes"
        await queued.queue.finish(right, Outcome.success(), await summary(compiled, right))
        assert (await queued.thread_row(first.thread_id))["status"] == "idle"


async def rows(world: QueueWorld) -> list[list[Any]]:
    return [
        [tuple(row) for row in await world.sql(f"SELECT * FROM {table} ORDER BY {table}::text")]
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
    ]


async def test_a_run_taken_over_goes_on_from_its_own_last_checkpoint(queued: QueueWorld) -> None:
    async with graph(queued, ask) as compiled:
        lost = await queued.opened()
        await compiled.ainvoke(TURN, config(lost))
        await queued.queue.finish(lost, Outcome.released(), None)
        (claim,) = await queued.claimed()
        assert claim.already_started
        await compiled.ainvoke(None, config(claim))
        state = await summary(compiled, claim)
        assert state.has_next
        assert (await queued.queue.finish(claim, Outcome.success(), state)).held
        assert (await queued.thread_row(claim.thread_id))["status"] == "interrupted"
