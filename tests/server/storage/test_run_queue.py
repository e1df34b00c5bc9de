"""The promises of the run queue, one worker at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest

from heddle_core.domain.events import StreamMode
from heddle_core.domain.ids import AssistantId, new_thread_id
from heddle_core.domain.json import Encoded
from heddle_core.domain.run import (
    CancelAction,
    Durability,
    IfNotExists,
    Outcome,
    RunKwargs,
    RunStatus,
)
from heddle_core.domain.thread import StateSummary
from heddle_core.ports.run_queue import Claim, NotOpened
from heddle_server.storage.ledger import Ledger
from tests.support.queue_world import ASSISTANT, LEASE, QueueWorld, new_run

FAILURE = Encoded(b'{"error": "ValueError", "message": "no"}')


def summary(n: int = 1, **given: object) -> StateSummary:
    fields: dict[str, object] = {"values": Encoded(b'{"n": %d}' % n), "checkpoint_id": f"c{n}"}
    return StateSummary(**(fields | given))  # type: ignore[arg-type]


async def test_a_run_on_an_idle_thread_is_born_claimed_and_its_thread_is_busy(queued: QueueWorld) -> None:
    new = new_run(metadata=Encoded(b'{"who": "run"}'))
    claim = await queued.opened(new)

    assert (claim.attempt, claim.already_started) == (1, False)
    assert claim.run.status is RunStatus.RUNNING
    assert orjson.loads(claim.run.metadata) == {"who": "run", "graph_id": "echo", "assistant_id": str(ASSISTANT)}
    assert orjson.loads(claim.thread_metadata) == {"graph_id": "echo", "assistant_id": str(ASSISTANT)}
    assert (await queued.thread_row(new.thread_id))["status"] == "busy"
    assert (await queued.run_row(new.run_id))["lease_token"] == claim.token


async def test_a_runs_metadata_lies_over_its_threads(queued: QueueWorld) -> None:
    thread = new_thread_id()
    await queued.sql("INSERT INTO heddle.thread (thread_id, metadata) VALUES ($1, $2)", thread, '{"who": 1, "of": 2}')
    claim = await queued.opened(new_run(thread))
    shown = orjson.loads(claim.run.metadata)
    assert (shown["who"], shown["of"]) == ("run", 2)
    assert orjson.loads((await queued.thread_row(thread))["metadata"])["who"] == 1


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"if_not_exists": IfNotExists.REJECT}, NotOpened.NO_THREAD),
        ({"assistant_id": AssistantId(new_thread_id())}, NotOpened.NO_ASSISTANT),
        ({"assistant_version": 2}, NotOpened.STALE_ASSISTANT),
        ({"delay_seconds": 5.0}, NotOpened.BUSY),
    ],
)
async def test_what_cannot_be_opened_writes_nothing(
    queued: QueueWorld, given: dict[str, Any], reason: NotOpened
) -> None:
    new = new_run(**given)
    assert await queued.queue.open(new, lease=LEASE) is reason
    assert await queued.thread_row(new.thread_id) is None
    assert await queued.run_row(new.run_id) is None


async def test_a_thread_in_use_is_busy_and_a_hidden_one_is_not_there(queued: QueueWorld) -> None:
    claim = await queued.opened(new_run(ephemeral=True))
    assert await queued.queue.open(new_run(claim.thread_id), lease=LEASE) is NotOpened.BUSY
    await queued.sql("DELETE FROM heddle.run")
    assert await queued.queue.open(new_run(claim.thread_id), lease=LEASE) is NotOpened.NO_THREAD


async def test_an_adopted_thread_brings_its_checkpoint(queued: QueueWorld) -> None:
    thread = new_thread_id()
    await queued.checkpoint(thread, "old")
    claim = await queued.opened(new_run(thread))
    assert isinstance(claim.ledger, Ledger)
    assert claim.ledger.head == "old"
    assert (await queued.run_row(claim.run_id))["base_checkpoint_id"] == "old"


async def test_a_run_from_an_older_checkpoint_notes_that_one_as_its_base(queued: QueueWorld) -> None:
    thread = new_thread_id()
    await queued.checkpoint(thread, "a")
    await queued.checkpoint(thread, "b")
    for task, checkpoint in (("t1", "a"), ("t2", "b")):
        await queued.sql(
            "INSERT INTO checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, type, blob)"
            " VALUES ($1, $2, $3, 0, 'ch', 'null', '')",
            str(thread),
            checkpoint,
            task,
        )
    kwargs = RunKwargs(config={}, checkpoint={"checkpoint_id": "a", "checkpoint_ns": ""})
    claim = await queued.opened(new_run(thread, kwargs=kwargs))
    row = await queued.run_row(claim.run_id)
    assert row["base_checkpoint_id"] == "a"
    assert [write[2] for write in orjson.loads(row["base_writes"])] == ["t1"]
    assert isinstance(claim.ledger, Ledger)
    assert claim.ledger.head == "b"


async def test_what_the_caller_asked_for_survives_the_row(queued: QueueWorld) -> None:
    kwargs = RunKwargs(
        input={"text": "a\x00b", "number": 1.5},
        command={"resume": None},
        checkpoint={"checkpoint_id": "x"},
        config={"tags": ["t"], "configurable": {"k": 1}},
        context={"c": 1},
        stream_modes=(StreamMode.MESSAGES_TUPLE, StreamMode.VALUES),
        subgraphs=True,
        resumable=True,
        interrupt_before="*",
        interrupt_after=("a", "b"),
        durability=Durability.EXIT,
        temporary=True,
        feedback_keys=("f",),
    )
    new = new_run(kwargs=kwargs)
    await queued.enqueued(new)
    (claim,) = await queued.claimed()
    assert claim.kwargs == kwargs
    assert orjson.loads(claim.run.kwargs)["input"]["text"] == "a\x00b"


async def test_claims_take_the_oldest_run_of_each_thread_and_none_of_a_busy_one(queued: QueueWorld) -> None:
    one, two = new_thread_id(), new_thread_id()
    first, second = new_run(one), new_run(one)
    for new in (first, second, other := new_run(two)):
        await queued.enqueued(new)
    claims = await queued.claimed()
    assert {claim.run_id for claim in claims} == {first.run_id, other.run_id}
    assert await queued.claimed() == ()

    finished = await queued.queue.finish(claims[0], Outcome.success(), summary())
    assert finished.successor_due == (claims[0].thread_id == one)
    await queued.queue.finish(claims[1], Outcome.success(), summary())
    (last,) = await queued.claimed()
    assert last.run_id == second.run_id


async def test_no_more_is_claimed_than_there_is_room_for(queued: QueueWorld) -> None:
    for _ in range(5):
        await queued.enqueued(new_run())
    assert len(await queued.claimed(2)) == 2
    assert len(await queued.claimed(9)) == 3


async def test_a_delayed_run_blocks_nobody_and_says_when_it_is_due(queued: QueueWorld) -> None:
    thread = new_thread_id()
    await queued.enqueued(new_run(thread, delay_seconds=60.0))
    later = new_run(thread)
    await queued.enqueued(later)
    claimed = await queued.queue.claim(5, lease=LEASE)
    assert [claim.run_id for claim in claimed.claims] == [later.run_id]
    assert claimed.next_due is not None
    assert timedelta(seconds=50) < claimed.next_due <= timedelta(seconds=60)
    finished = await queued.queue.finish(claimed.claims[0], Outcome.success(), summary())
    assert not finished.successor_due
    assert (await queued.thread_row(thread))["status"] == "busy"


async def test_a_heartbeat_tells_each_claim_in_order_how_it_stands(queued: QueueWorld) -> None:
    held, stopped, lost = [await queued.opened() for _ in range(3)]
    async with queued.runs() as runs:
        assert await runs.cancel([stopped.run], CancelAction.ROLLBACK) == [stopped.run_id]
        assert await runs.cancel([stopped.run], CancelAction.INTERRUPT) == [stopped.run_id]
    await queued.let_the_lease_lapse(lost)
    await queued.queue.reap(max_attempts=3)

    beats = await queued.queue.heartbeat([lost, stopped, held], lease=timedelta(minutes=5))
    assert [(beat.held, beat.cancel) for beat in beats] == [
        (False, None),
        (True, CancelAction.ROLLBACK),
        (True, None),
    ]
    until = await queued.one("SELECT lease_until - now() FROM heddle.run WHERE run_id = $1", held.run_id)
    assert until > timedelta(minutes=4)


@pytest.mark.parametrize(
    ("outcome", "has_next", "run_status", "thread_status", "error"),
    [
        (Outcome.success(), False, "success", "idle", None),
        (Outcome.success(), True, "success", "interrupted", None),
        (Outcome.failed(FAILURE), True, "error", "error", FAILURE),
        (Outcome.timed_out(FAILURE), False, "timeout", "error", FAILURE),
        (Outcome.cancelled(CancelAction.INTERRUPT), True, "interrupted", "interrupted", None),
        (Outcome.cancelled(CancelAction.INTERRUPT), False, "interrupted", "idle", None),
    ],
)
async def test_an_outcome_is_written_with_what_the_thread_shows(
    queued: QueueWorld, outcome: Outcome, has_next: bool, run_status: str, thread_status: str, error: bytes | None
) -> None:
    claim = await queued.opened()
    state = summary(7, has_next=has_next, interrupts=Encoded(b'{"t": []}'))
    assert (await queued.queue.finish(claim, outcome, state)).held
    run, thread = await queued.run_row(claim.run_id), await queued.thread_row(claim.thread_id)
    assert (run["status"], thread["status"], run["head_checkpoint_id"]) == (run_status, thread_status, "c7")
    assert (run["lease_token"], run["lease_until"]) == (None, None)
    assert (orjson.loads(thread["values"]), orjson.loads(thread["interrupts"])) == ({"n": 7}, {"t": []})
    for row in (run, thread):
        assert (row["error"] and orjson.loads(row["error"])) == (error and orjson.loads(error))


async def test_a_run_that_made_no_checkpoint_leaves_the_values_it_found(queued: QueueWorld) -> None:
    claim = await queued.opened()
    await queued.queue.finish(claim, Outcome.success(), summary(1, has_next=True))
    again = await queued.opened(new_run(claim.thread_id))
    await queued.queue.finish(again, Outcome.failed(FAILURE), StateSummary())
    assert orjson.loads((await queued.thread_row(claim.thread_id))["values"]) == {"n": 1}
    third = await queued.opened(new_run(claim.thread_id))
    await queued.queue.finish(third, Outcome.cancelled(CancelAction.INTERRUPT), None)
    row = await queued.thread_row(claim.thread_id)
    assert (row["status"], row["error"]) == ("interrupted", None)


async def test_a_worker_that_lost_its_lease_cannot_finish(queued: QueueWorld) -> None:
    first = await queued.opened()
    await queued.let_the_lease_lapse(first)
    assert await queued.queue.reap(max_attempts=3) == [first.run_id]
    (second,) = await queued.claimed()
    assert (second.run_id, second.attempt) == (first.run_id, 2)
    assert second.token != first.token

    assert not (await queued.queue.finish(first, Outcome.success(), summary())).held
    assert (await queued.run_row(first.run_id))["status"] == "running"
    assert (await queued.queue.finish(second, Outcome.success(), summary())).held


async def test_a_released_run_is_pending_again_and_starts_from_its_first_base(queued: QueueWorld) -> None:
    thread = new_thread_id()
    await queued.checkpoint(thread, "base")
    claim = await queued.opened(new_run(thread))
    await queued.checkpoint(thread, "own", claim.run_id)
    assert (await queued.queue.finish(claim, Outcome.released(), None)).held
    row = await queued.run_row(claim.run_id)
    assert (row["status"], row["attempt"], row["lease_token"]) == ("pending", 1, None)
    assert (await queued.thread_row(thread))["status"] == "busy"
    (again,) = await queued.claimed()
    assert (again.attempt, again.already_started) == (2, True)
    assert (await queued.run_row(claim.run_id))["base_checkpoint_id"] == "base"


@pytest.mark.parametrize("action", list(CancelAction))
async def test_a_run_asked_to_stop_and_given_back_ends_by_that_request(
    queued: QueueWorld, action: CancelAction
) -> None:
    claim = await queued.opened()
    async with queued.runs() as runs:
        await runs.cancel([claim.run], action)
    assert (await queued.queue.finish(claim, Outcome.released(), None)).held
    row = await queued.run_row(claim.run_id)
    assert (row and row["status"]) == (None if action is CancelAction.ROLLBACK else "interrupted")
    assert (await queued.thread_row(claim.thread_id))["status"] == "idle"
    assert await queued.claimed() == ()


async def test_a_run_that_was_given_back_and_then_cancelled_leaves_its_thread_with_more_to_do(
    queued: QueueWorld,
) -> None:
    claim = await queued.opened()
    await queued.checkpoint(claim.thread_id, "own", claim.run_id)
    assert (await queued.queue.finish(claim, Outcome.released(), None)).held
    async with queued.runs() as runs:
        given_back = await runs.find(claim.run_id)
        assert given_back is not None
        await runs.cancel([given_back], CancelAction.INTERRUPT)
    row = await queued.run_row(claim.run_id)
    assert row is not None
    assert (row["status"], row["head_checkpoint_id"]) == ("interrupted", "own")
    assert (await queued.thread_row(claim.thread_id))["status"] == "interrupted"


async def test_the_owners_outcome_stands_when_an_interrupt_comes_while_it_finishes(queued: QueueWorld) -> None:
    claim = await queued.opened()
    async with queued.runs() as runs:
        await runs.cancel([claim.run], CancelAction.INTERRUPT)
    finished = await queued.queue.finish(claim, Outcome.success(), summary())
    assert (finished.held, finished.instead) == (True, None)
    assert (await queued.run_row(claim.run_id))["status"] == "success"


async def test_a_rollback_is_honoured_even_when_it_comes_while_the_run_finishes(queued: QueueWorld) -> None:
    claim = await queued.opened()
    before = await queued.thread_row(claim.thread_id)
    async with queued.runs() as runs:
        await runs.cancel([claim.run], CancelAction.ROLLBACK)
    finished = await queued.queue.finish(claim, Outcome.success(), summary())
    assert (finished.held, finished.instead) == (True, Outcome.cancelled(CancelAction.ROLLBACK))
    assert await queued.run_row(claim.run_id) is None
    after = await queued.thread_row(claim.thread_id)
    assert (after["status"], after["values"]) == ("idle", before["values"])


async def test_a_rollback_leaves_the_thread_as_the_run_found_it(queued: QueueWorld) -> None:
    first = await queued.opened()
    await queued.queue.finish(first, Outcome.success(), summary(1, has_next=True))
    await queued.checkpoint(first.thread_id, "c1", first.run_id)
    claim = await queued.opened(new_run(first.thread_id))
    await queued.checkpoint(first.thread_id, "c2", claim.run_id)
    assert (await queued.queue.finish(claim, Outcome.cancelled(CancelAction.ROLLBACK), None)).held

    assert await queued.run_row(claim.run_id) is None
    row = await queued.thread_row(first.thread_id)
    assert (row["status"], orjson.loads(row["values"])) == ("interrupted", {"n": 1})
    left = await queued.sql("SELECT checkpoint_id FROM checkpoints WHERE thread_id = $1", str(first.thread_id))
    assert [row["checkpoint_id"] for row in left] == ["c1"]


async def test_the_thread_of_a_stateless_run_goes_with_it(queued: QueueWorld) -> None:
    claim = await queued.opened(new_run(ephemeral=True))
    await queued.checkpoint(claim.thread_id, "c1", claim.run_id)
    await queued.queue.finish(claim, Outcome.released(), None)
    assert await queued.thread_row(claim.thread_id) is not None
    (again,) = await queued.claimed()
    assert (await queued.queue.finish(again, Outcome.success(), None)).held
    assert await queued.thread_row(claim.thread_id) is None
    assert await queued.one("SELECT count(*) FROM checkpoints") == 0


async def test_a_run_whose_worker_is_lost_too_often_ends_as_an_error_and_frees_its_thread(queued: QueueWorld) -> None:
    claim = await queued.opened()
    await queued.enqueued(waiting := new_run(claim.thread_id))
    for _ in range(2):
        await queued.let_the_lease_lapse(claim)
        await queued.queue.reap(max_attempts=2)
        (claim,) = await queued.claimed() or (claim,)
        if claim.run_id == waiting.run_id:
            break
    assert claim.run_id == waiting.run_id
    given_up = (await queued.sql("SELECT * FROM heddle.run WHERE status = 'error'"))[0]
    assert orjson.loads(given_up["error"])["error"] == "WorkerLost"
    await queued.queue.finish(claim, Outcome.success(), None)
    assert (await queued.thread_row(claim.thread_id))["status"] == "idle"


@pytest.mark.parametrize("action", list(CancelAction))
async def test_a_lost_run_ends_by_the_cancel_its_owner_did_not_live_to_see(
    queued: QueueWorld, action: CancelAction
) -> None:
    claim = await queued.opened()
    await queued.checkpoint(claim.thread_id, "c1", claim.run_id)
    async with queued.runs() as runs:
        await runs.cancel([claim.run], action)
    await queued.let_the_lease_lapse(claim)
    assert await queued.queue.reap(max_attempts=3) == [claim.run_id]
    row, thread = await queued.run_row(claim.run_id), await queued.thread_row(claim.thread_id)
    if action is CancelAction.ROLLBACK:
        assert (row, thread["status"], await queued.one("SELECT count(*) FROM checkpoints")) == (None, "idle", 0)
    else:
        assert (row["status"], thread["status"]) == ("interrupted", "interrupted")


async def test_hidden_threads_whose_run_is_over_are_removed_and_others_stay(queued: QueueWorld) -> None:
    over, running, plain = new_run(ephemeral=True), new_run(ephemeral=True), new_run()
    await queued.enqueued(over)
    async with queued.runs() as runs:
        found = await runs.find(over.run_id)
        assert found is not None
        assert await runs.cancel([found], CancelAction.INTERRUPT) == []
    await queued.opened(running)
    claim = await queued.opened(plain)
    await queued.queue.finish(claim, Outcome.success(), summary())
    assert await queued.queue.reap(max_attempts=3) == []
    left = {row["thread_id"] for row in await queued.sql("SELECT thread_id FROM heddle.thread")}
    assert left == {running.thread_id, plain.thread_id}


async def test_only_watched_runs_announce_their_end(queued: QueueWorld) -> None:
    heard: list[str] = []
    connection = await queued.database.pool.acquire()

    def hear(*said: object) -> None:
        heard.append(str(said[3]))

    await connection.add_listener("heddle", hear)
    watched, plain = await queued.opened(), await queued.opened()
    async with queued.runs() as runs:
        seen = await runs.watch(watched.run_id)
        assert seen is not None
        assert seen.run_id == watched.run_id
    await queued.queue.finish(plain, Outcome.success(), summary())
    await queued.queue.finish(watched, Outcome.success(), summary())
    await connection.fetchval("SELECT 1")
    assert heard == [f"run_ended {watched.run_id}"]
    await connection.remove_listener("heddle", hear)
    await queued.database.pool.release(connection)


async def test_an_echo_run_is_two_statements_and_two_commits(queued: QueueWorld) -> None:
    commits = []
    for _ in range(10):
        before = await queued.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        await queued.queue.finish(await queued.opened(), Outcome.success(), summary())
        after = await queued.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        commits.append(after - before)
    # The counter is the server's: tests beside this one can only add to it.
    assert min(commits) == 2


async def test_runs_that_come_together_share_commits(queued: QueueWorld) -> None:
    commits = []
    for _ in range(5):
        before = await queued.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        opened = await asyncio.gather(*(queued.queue.open(new_run(), lease=LEASE) for _ in range(40)))
        claims = [claim for claim in opened if isinstance(claim, Claim)]
        assert len(claims) == 40
        await asyncio.gather(*(queued.queue.finish(claim, Outcome.success(), summary()) for claim in claims))
        after = await queued.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        commits.append(after - before)
    assert min(commits) < 12  # as above, neighbours can only add
