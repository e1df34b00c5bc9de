"""One database, two savers: what the stock saver wrote opens here, and the other way round."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from heddle_server.storage.checkpoints import PostgresSaver
from tests.support.checkpoint_world import CheckpointWorld, config_for, config_on

LARGE = "long " * 1000


class State(TypedDict, total=False):
    notes: Annotated[list[str], operator.add]
    text: str
    value: Any


@asynccontextmanager
async def stock(world: CheckpointWorld) -> AsyncIterator[AsyncPostgresSaver]:
    async with AsyncPostgresSaver.from_conn_string(world.address.libpq_url()) as saver:
        await saver.setup()
        yield saver


def echo() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(State)
    graph.add_node("echo", lambda state: {"notes": [f"{len(state['notes'])}"]})
    graph.add_edge(START, "echo")
    return graph


async def turn(world: CheckpointWorld, graph: Any, thread: Any, given: Any) -> Any:
    """One run under a claim when our saver serves the graph, otherwise one as it comes."""
    if not isinstance(graph.checkpointer, PostgresSaver):
        return await graph.ainvoke(given, config_on(thread))
    ledger = await world.claim(thread)
    result = await graph.ainvoke(given, config_for(ledger), durability="async")
    assert await world.close(ledger)
    return result


async def test_the_stock_setup_finds_nothing_to_migrate(world: CheckpointWorld) -> None:
    async with stock(world):
        assert await world.pool.fetchval("SELECT max(v) FROM checkpoint_migrations") == 9


async def test_alternating_turns_build_one_conversation(world: CheckpointWorld) -> None:
    thread = uuid4()
    async with stock(world) as theirs:
        for n, saver in enumerate([theirs, world.saver] * 3):
            saver_: BaseCheckpointSaver[Any] = saver
            await turn(world, echo().compile(saver_), thread, {"notes": [f"turn {n}"]})
        for saver in (theirs, world.saver):
            state = await echo().compile(saver).aget_state(config_on(thread))
            assert len(state.values["notes"]) == 12
        mine = [found async for found in world.saver.alist(config_on(thread))]
        others = [found async for found in theirs.alist(config_on(thread))]
    assert [without_order(found) for found in mine] == [without_order(found) for found in others]
    assert len(mine) == 18


def without_order(found: CheckpointTuple) -> CheckpointTuple:
    return found._replace(pending_writes=sorted(found.pending_writes or [], key=repr))


@pytest.mark.parametrize("claimed", [True, False])
async def test_a_long_string_of_the_stock_saver_survives_turns_that_do_not_touch_it(
    world: CheckpointWorld, claimed: bool
) -> None:
    thread = uuid4()
    async with stock(world) as theirs:
        await echo().compile(theirs).ainvoke({"notes": ["a"], "text": LARGE}, config_on(thread))
        for n in range(2):
            graph = echo().compile(world.saver)
            if claimed:
                await turn(world, graph, thread, {"notes": [f"b{n}"]})
            else:
                await graph.ainvoke({"notes": [f"b{n}"]}, config_on(thread))
        for saver in (theirs, world.saver):
            states = [state async for state in echo().compile(saver).aget_state_history(config_on(thread))]
            assert [state.values["text"] for state in states if "text" in state.values] == [LARGE] * 8
    assert await world.pool.fetchval("SELECT count(*) FROM checkpoint_blobs WHERE channel = 'text'") == 1


async def test_an_interrupt_raised_under_one_saver_is_answered_under_the_other(world: CheckpointWorld) -> None:
    graph = StateGraph(State)
    graph.add_node("ask", lambda state: {"notes": [interrupt("q1"), interrupt("q2")]})
    graph.add_edge(START, "ask")
    async with stock(world) as theirs:
        for first, second in ((theirs, world.saver), (world.saver, theirs)):
            one: Any = graph.compile(first)
            two: Any = graph.compile(second)
            thread = uuid4()
            await turn(world, one, thread, {"notes": []})
            await turn(world, two, thread, Command(resume="a1"))
            await turn(world, one, thread, Command(resume="a2"))
            assert (await two.aget_state(config_on(thread))).values["notes"] == ["a1", "a2"]


@pytest.mark.parametrize(
    "value",
    [
        "nul \0 inside",
        "\\u0000 spelled out",
        LARGE,
        "é" * 600,
        1e16,
        -0.0,
        float("inf"),
        2**63 - 1,
        -(2**63),
        True,
        None,
        b"bytes",
        {"nested": "nul \0", "float": -0.0},
    ],
)
async def test_values_come_back_as_they_went(world: CheckpointWorld, value: Any) -> None:
    thread, graph = uuid4(), echo().compile(world.saver)
    await turn(world, graph, thread, {"notes": [], "value": value})
    async with stock(world) as theirs:
        for saver in (world.saver, theirs):
            read = (await echo().compile(saver).aget_state(config_on(thread))).values["value"]
            assert repr(read) == repr(value)


async def test_nan_does_not_fail_the_run(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), echo().compile(world.saver)
    await turn(world, graph, thread, {"notes": [], "value": float("nan")})
    assert repr((await graph.aget_state(config_on(thread))).values["value"]) == "nan"


async def test_a_lone_surrogate_does_not_fail_the_run(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), echo().compile(world.saver)
    await turn(world, graph, thread, {"notes": [], "value": "a\ud800b"})
    assert (await graph.aget_state(config_on(thread))).values["value"] == "a?b"


async def test_a_whole_number_beyond_64_bits_stored_inline_is_read_exactly(world: CheckpointWorld) -> None:
    thread = uuid4()
    async with stock(world) as theirs:
        checkpoint = await _put(theirs, thread, {"value": 2**70})
    found = await world.saver.aget_tuple(config_on(thread))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"value": 2**70}
    assert found.checkpoint["id"] == checkpoint


async def test_a_channel_name_with_a_backslash_is_stored_and_read(world: CheckpointWorld) -> None:
    thread = uuid4()
    config = config_on(thread, checkpoint_ns="")
    await world.saver.aput(
        config, _checkpoint({"a\\b": [1]}), {"source": "loop", "step": 0, "parents": {}}, {"a\\b": "1"}
    )
    found = await world.saver.aget_tuple(config)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a\\b": [1]}


async def test_metadata_that_jsonb_cannot_hold_is_stored_cleaned(world: CheckpointWorld) -> None:
    thread, graph = uuid4(), echo().compile(world.saver)
    ledger = await world.claim(thread)
    config = config_for(ledger) | {
        "metadata": {"nul": "a\0b", "surrogate": "a\ud800", "nan": float("nan"), "large": 2**70, "plain": "x"}
    }
    await graph.ainvoke({"notes": []}, config)
    assert await world.close(ledger)
    found = await world.saver.aget_tuple(config_on(thread))
    assert found is not None
    metadata: dict[str, Any] = dict(found.metadata)
    assert metadata["nul"] == "ab"
    assert metadata["surrogate"] == "a?"
    assert metadata["nan"] is None
    assert metadata["plain"] == "x"


async def test_sends_of_checkpoints_before_format_4_are_merged(world: CheckpointWorld) -> None:
    from langgraph.types import Send

    thread = uuid4()
    async with stock(world) as theirs:
        parent = await _put(theirs, thread, {}, v=3)
        config = config_on(thread, checkpoint_ns="", checkpoint_id=parent)
        await theirs.aput_writes(
            config, [("__pregel_tasks", Send("n", 1)), ("__pregel_tasks", Send("n", 2))], str(uuid4())
        )
        await _put(theirs, thread, {"value": 1}, v=3, parent=parent)
        expected = [found async for found in theirs.alist(config_on(thread))]
        assert expected[0].checkpoint["channel_values"]["__pregel_tasks"] == [Send("n", 1), Send("n", 2)]
        assert [found async for found in world.saver.alist(config_on(thread))] == expected
        assert await world.saver.aget_tuple(config_on(thread)) == expected[0]


class Reversing:
    """A cipher to see through."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "reversed", plaintext[::-1]

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        assert ciphername == "reversed"
        return ciphertext[::-1]


async def test_with_a_cipher_no_value_is_stored_in_clear(world: CheckpointWorld) -> None:
    serde = EncryptedSerializer(Reversing(), JsonPlusSerializer())
    graph, thread = echo().compile(PostgresSaver(world.pool, world.flusher, serde)), uuid4()
    await turn(world, graph, thread, {"notes": ["secret"], "text": "secret", "value": 42})
    assert (await graph.aget_state(config_on(thread))).values == {
        "notes": ["secret", "1"],
        "text": "secret",
        "value": 42,
    }
    stored = await world.pool.fetchval("SELECT string_agg(checkpoint::text, '') FROM checkpoints")
    assert "secret" not in stored
    assert await world.pool.fetchval("SELECT count(*) FROM checkpoint_blobs WHERE blob::text LIKE '%secret%'") == 0


async def test_copies_with_an_allowlist_share_what_the_saver_holds(
    world: CheckpointWorld,
) -> None:
    strict = PostgresSaver(world.pool, world.flusher, JsonPlusSerializer(allowed_msgpack_modules=None))
    copy = strict.with_allowlist([("uuid", "UUID"), ("somewhere", "Else")])
    assert copy is not strict
    thread = uuid4()
    await turn(world, echo().compile(copy), thread, {"notes": ["a"]})
    assert (await echo().compile(strict).aget_state(config_on(thread))).values["notes"] == ["a", "1"]


def _checkpoint(values: dict[str, Any], v: int = 4) -> Any:
    return {
        "v": v,
        "id": str(uuid6(clock_seq=0)),
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": dict.fromkeys(values, "1"),
        "versions_seen": {},
        "updated_channels": None,
    }


async def _put(saver: Any, thread: Any, values: dict[str, Any], v: int = 4, parent: str | None = None) -> str:
    checkpoint = _checkpoint(values, v)
    config = config_on(thread, checkpoint_ns="", checkpoint_id=parent)
    await saver.aput(config, checkpoint, {"source": "loop", "step": 0, "parents": {}}, dict.fromkeys(values, "1"))
    return str(checkpoint["id"])
