"""What each stream mode says, event by event."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from langgraph.checkpoint.memory import InMemorySaver

from heddle_core.domain.events import StreamMode
from tests.support.graphs import samples
from tests.support.graphs.worlds import GraphWorld, ListLog, a_claim

HELLO = {"messages": [{"role": "user", "content": "hi", "id": "question"}]}


@pytest.fixture
def world() -> GraphWorld:
    return GraphWorld()


async def ran(world: GraphWorld, graph_id: str, given: Any, *modes: str, **kwargs: Any) -> ListLog:
    log = ListLog()
    await world.run(a_claim(graph_id, given, *modes, **kwargs), log)
    return log


async def test_values_and_updates_come_in_the_order_of_the_steps(world: GraphWorld) -> None:
    log = await ran(world, "two", {"log": ["in"]}, "updates", "values")

    assert log.data == [
        ("values", {"log": ["in"]}),
        ("updates", {"first": {"log": ["first"]}}),
        ("values", {"log": ["in", "first"]}),
        ("updates", {"second": {"log": ["second"]}}),
        ("values", {"log": ["in", "first", "second"]}),
    ]
    assert [event.mode for event in log.events[:2]] == [StreamMode.VALUES, StreamMode.UPDATES]


async def test_a_mode_nobody_asked_for_is_not_written(world: GraphWorld) -> None:
    log = await ran(world, "two", {"log": ["in"]}, "updates")

    assert log.names == ["updates", "updates"]


async def test_the_state_modes_say_what_langgraph_says(world: GraphWorld) -> None:
    modes: list[Any] = ["values", "updates", "custom", "tasks"]
    graph = samples.line(samples.talks).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    stream: Any = graph.astream({"log": ["in"]}, config, stream_mode=modes)
    direct = [
        (mode, {k: v for k, v in payload.items() if k not in ("id", "metadata")}) async for mode, payload in stream
    ]

    log = await ran(world, "talker", {"log": ["in"]}, *modes)

    ours = [(n, {k: v for k, v in data.items() if k not in ("id", "metadata")}) for n, data in log.data]
    assert ours == [(mode, orjson.loads(orjson.dumps(payload))) for mode, payload in direct]


async def test_a_pause_is_in_values_and_updates_with_its_response_schema(world: GraphWorld) -> None:
    log = await ran(world, "asks", {"log": []}, "values", "updates")

    [question] = log.of("updates")[-1]["__interrupt__"]
    assert question["value"] == {"question": "go on?"}
    assert question["response_schema"] is None
    assert log.of("values")[-1] == {"log": ["first"], "__interrupt__": [question]}


async def test_custom_events_are_what_the_node_wrote(world: GraphWorld) -> None:
    log = await ran(world, "talker", {"log": []}, "custom")

    assert log.data == [("custom", {"number": number}) for number in range(3)]


async def test_tasks_start_with_their_input_and_end_with_their_result(world: GraphWorld) -> None:
    log = await ran(world, "echo", {"log": ["in"]}, "tasks")

    start, end = log.of("tasks")
    assert (start["name"], start["input"]) == ("echo_node", {"log": ["in"]})
    assert start["triggers"] == ["branch:to:echo_node"]
    assert (end["id"], end["error"], end["result"], end["interrupts"]) == (start["id"], None, {"log": ["echo"]}, [])


@pytest.mark.parametrize("mode", ["checkpoints", "debug"])
async def test_checkpoints_name_where_they_are_and_leak_nothing(world: GraphWorld, mode: str) -> None:
    log = ListLog()
    claim = a_claim("two", {"log": ["in"]}, mode, config={"configurable": {"langgraph_auth_user_id": "u", "mine": 1}})
    await world.run(claim, log)

    found = [data["payload"] if mode == "debug" else data for data in log.of(mode) if data.get("type") != "task"]
    checkpoints = [payload for payload in found if "next" in payload]
    assert [payload["next"] for payload in checkpoints] == [["__start__"], ["first"], ["second"], []]
    root, *later = checkpoints
    assert root["parent_config"] is None
    assert root["parent_checkpoint"] is None
    assert later[0]["parent_checkpoint"] == root["checkpoint"]
    assert root["checkpoint"]["thread_id"] == str(claim.thread_id)
    assert root["config"]["configurable"]["mine"] == 1
    text = b"".join(event.data for event in log.events)
    assert b"__heddle" not in text
    assert b"langgraph_auth" not in text


async def test_debug_wraps_checkpoints_and_tasks_with_their_step(world: GraphWorld) -> None:
    log = await ran(world, "echo", {"log": []}, "debug")

    shape = [(data["type"], data["step"]) for data in log.of("debug")]
    assert shape == [("checkpoint", -1), ("checkpoint", 0), ("task", 1), ("task_result", 1), ("checkpoint", 1)]
    assert all(data["timestamp"] for data in log.of("debug"))


async def test_message_tuples_are_the_tokens_with_where_they_came_from(world: GraphWorld) -> None:
    log = ListLog()
    claim = a_claim("chat", HELLO, "messages-tuple", "values", metadata={"mine": "yes"})
    await world.run(claim, log)

    tuples = log.of("messages")
    assert [message["content"] for message, _ in tuples if message["content"]] == ["he", "ll", "o"]
    assert {message["type"] for message, _ in tuples} == {"AIMessageChunk"}
    assert tuples[-1][0]["chunk_position"] == "last"
    metadata = tuples[0][1]
    assert (metadata["langgraph_node"], metadata["langgraph_step"]) == ("agent", 1)
    assert (metadata["run_id"], metadata["thread_id"]) == (str(claim.run_id), str(claim.thread_id))
    assert (metadata["mine"], metadata["ls_model_type"]) == ("yes", "chat")
    assert not [key for key in metadata if key.startswith("__")]


async def test_a_streamed_message_has_the_id_it_has_in_the_values(world: GraphWorld) -> None:
    log = await ran(world, "chat", HELLO, "messages-tuple", "messages", "values")

    question, answer = log.of("values")[-1]["messages"]
    assert question["id"] == "question"
    assert {message["id"] for message, _ in log.of("messages")} == {answer["id"]}
    assert log.of("messages/partial")[-1][0]["id"] == answer["id"]
    assert answer["id"].startswith("lc_run--")


async def test_messages_mode_introduces_a_message_once_and_repeats_it_as_it_grows(world: GraphWorld) -> None:
    log = await ran(world, "chat", HELLO, "messages")

    assert log.names[:2] == ["messages/metadata", "messages/partial"]
    assert set(log.names[1:]) == {"messages/partial"}
    partials = [message for [message] in log.of("messages/partial")]
    assert [m["content"] for m in partials[:3]] == ["he", "hell", "hello"]
    assert {m["type"] for m in partials} == {"ai"}
    assert list(log.of("messages/metadata")[0]) == [partials[0]["id"]]
    assert log.of("messages/metadata")[0][partials[0]["id"]]["metadata"]["langgraph_node"] == "agent"


async def test_a_whole_message_is_complete_at_once_and_tool_calls_are_parsed(world: GraphWorld) -> None:
    log = await ran(world, "tool_agent", HELLO, "messages")

    [[result]] = log.of("messages/complete")
    assert (result["type"], result["content"], result["tool_call_id"]) == ("tool", "2", "call-1")
    [called] = [m for [m] in log.of("messages/partial") if m["tool_calls"]][-1:]
    assert called["tool_calls"] == [{"name": "add", "args": {"a": 1}, "id": "call-1", "type": "tool_call"}]
    assert len(log.of("messages/metadata")) == 3


async def test_parts_that_nobody_saw_are_in_the_first_that_somebody_sees(world: GraphWorld) -> None:
    log = ListLog(is_watched=False)
    seen = 0

    class Watched(ListLog):
        @property
        def is_watched(self) -> bool:
            nonlocal seen
            seen += 1
            return seen > 2

        @is_watched.setter
        def is_watched(self, value: bool) -> None: ...

    log = Watched()
    await world.run(a_claim("chat", HELLO, "messages"), log)

    assert log.of("messages/partial")[0][0]["content"] == "hello"


async def test_nothing_is_encoded_for_a_log_that_nobody_can_read(world: GraphWorld) -> None:
    log = ListLog(is_watched=False)
    answer = await world.run(a_claim("two", {"log": []}, "values", "updates", "debug", "events"), log)

    assert log.events == []
    assert answer == {"log": ["first", "second"]}


async def test_subgraph_events_carry_their_namespace(world: GraphWorld) -> None:
    log = await ran(world, "parent", {"log": []}, "values", "updates", subgraphs=True)

    inner = [name for name in log.names if name.startswith("updates|inner:")]
    assert len(inner) == 1
    assert log.of(inner[0]) == [{"child": {"log": ["child"]}}]
    assert log.names[-1] == "values"


async def test_without_the_flag_subgraphs_are_silent(world: GraphWorld) -> None:
    log = await ran(world, "parent", {"log": []}, "values", "updates")

    assert set(log.names) == {"values", "updates"}


async def test_tokens_of_a_subgraph_need_the_flag(world: GraphWorld) -> None:
    with_flag = await ran(world, "chat_parent", HELLO, "messages-tuple", "messages", subgraphs=True)
    without = await ran(world, "chat_parent", HELLO, "messages-tuple")

    tuples = {name for name in with_flag.names if name.startswith("messages|inner:")}
    assert len(tuples) == 1
    assert "messages/partial" in with_flag.names  # the parts carry no namespace
    assert [message["type"] for message, _ in without.of("messages")] == ["ai"]


async def test_events_come_with_the_other_modes_of_the_same_run(world: GraphWorld) -> None:
    log = ListLog()
    claim = a_claim("chat", HELLO, "events", "values", "messages-tuple", metadata={"mine": "yes"})
    answer = await world.run(claim, log)

    records = log.of("events")
    assert (records[0]["event"], records[0]["run_id"]) == ("on_chain_start", str(claim.run_id))
    assert records[0]["metadata"]["mine"] == "yes"
    tokens = [r["data"]["chunk"]["content"] for r in records if r["event"] == "on_chat_model_stream"]
    assert "".join(tokens) == "hello"
    assert log.of("values")[-1] == answer
    assert "".join(message["content"] for message, _ in log.of("messages")) == "hello"
    assert answer["messages"][-1]["content"] == "hello"
    assert b"__heddle" not in b"".join(event.data for event in log.events)


async def test_events_do_not_repeat_the_other_modes_nor_leak_through_them(world: GraphWorld) -> None:
    config = {"configurable": {"langgraph_auth_user_id": "u"}}
    log = await ran(world, "two", {"log": []}, "events", "debug", "checkpoints", config=config)

    streamed = [record["name"] for record in log.of("events") if record["event"] == "on_chain_stream"]
    assert streamed == ["first", "second"]
    text = b"".join(event.data for event in log.events)
    assert b"langgraph_auth" not in text
    assert b"__heddle" not in text


async def test_events_with_subgraphs_keep_the_namespaces(world: GraphWorld) -> None:
    log = await ran(world, "parent", {"log": []}, "events", "updates", subgraphs=True)

    assert any(name.startswith("updates|inner:") for name in log.names)


async def test_a_command_for_a_parent_is_an_event_of_its_own(world: GraphWorld) -> None:
    log = await ran(world, "asks_parent", {"log": []}, "values")

    [command] = log.of("command")
    assert (command["graph"], command["goto"]) == ("__parent__", "elsewhere")
    assert log.events[-1].mode is None


async def test_odd_values_never_break_a_stream(world: GraphWorld) -> None:
    log = await ran(world, "awkward", {"log": []}, "custom", "values")

    assert log.of("custom") == [
        {"nan": None, "big": 2**70, "nul": "a\ufffdb", "lone": "\ufffd", "odd": "<opaque>", "1": [1, 2]}
    ]
    assert log.of("values")[-1] == {"log": ["a\ufffdb", None]}
