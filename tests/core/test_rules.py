"""The rules that are plain functions, as tables."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from heddle_core.domain.assistant import Assistant
from heddle_core.domain.errors import BadRequest, ThreadBusy
from heddle_core.domain.ids import new_run_id, new_thread_id, system_assistant_id, uuid7
from heddle_core.domain.json import EMPTY_OBJECT, encode
from heddle_core.domain.multitask import decide
from heddle_core.domain.run import (
    LEGAL_TRANSITIONS,
    CancelAction,
    MultitaskStrategy,
    OutcomeKind,
    Run,
    RunStatus,
)
from heddle_core.domain.thread import ThreadStatus, resting_status
from heddle_core.usecases.merging import merge_config, merge_metadata

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_run(status: RunStatus = RunStatus.RUNNING) -> Run:
    return Run(
        run_id=new_run_id(),
        thread_id=new_thread_id(),
        assistant_id=system_assistant_id("echo"),
        graph_id="echo",
        created_at=NOW,
        updated_at=NOW,
        status=status,
        metadata=EMPTY_OBJECT,
        kwargs=EMPTY_OBJECT,
        multitask_strategy=MultitaskStrategy.ENQUEUE,
    )


def an_assistant(**changes: object) -> Assistant:
    values: dict[str, object] = {
        "assistant_id": system_assistant_id("echo"),
        "graph_id": "echo",
        "name": "echo",
        "description": None,
        "config": {},
        "context": {},
        "metadata": {},
        "version": 1,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Assistant(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", MultitaskStrategy)
def test_on_an_idle_thread_every_strategy_just_starts(strategy: MultitaskStrategy) -> None:
    decision = decide(strategy, [])
    assert decision.refusal is None
    assert decision.cancel == ()


def test_reject_refuses_and_cancels_nothing() -> None:
    decision = decide(MultitaskStrategy.REJECT, [a_run()])
    assert isinstance(decision.refusal, ThreadBusy)
    assert decision.cancel == ()


def test_enqueue_leaves_the_others_alone() -> None:
    assert decide(MultitaskStrategy.ENQUEUE, [a_run()]).cancel == ()


@pytest.mark.parametrize(
    ("strategy", "action"),
    [
        (MultitaskStrategy.INTERRUPT, CancelAction.INTERRUPT),
        (MultitaskStrategy.ROLLBACK, CancelAction.ROLLBACK),
    ],
)
def test_interrupt_and_rollback_stop_everything_in_flight(strategy: MultitaskStrategy, action: CancelAction) -> None:
    inflight = [a_run(), a_run(RunStatus.PENDING)]
    decision = decide(strategy, inflight)
    assert decision.refusal is None
    assert decision.cancel == tuple(inflight)
    assert decision.action is action


@pytest.mark.parametrize(
    ("outcome", "has_next", "status"),
    [
        (OutcomeKind.SUCCESS, False, ThreadStatus.IDLE),
        (OutcomeKind.SUCCESS, True, ThreadStatus.INTERRUPTED),
        (OutcomeKind.INTERRUPTED, False, ThreadStatus.IDLE),
        (OutcomeKind.INTERRUPTED, True, ThreadStatus.INTERRUPTED),
        (OutcomeKind.ERROR, False, ThreadStatus.ERROR),
        (OutcomeKind.ERROR, True, ThreadStatus.ERROR),
        (OutcomeKind.TIMEOUT, True, ThreadStatus.ERROR),
    ],
)
def test_a_thread_rests_as_its_last_run_left_it(outcome: OutcomeKind, has_next: bool, status: ThreadStatus) -> None:
    assert resting_status(outcome, has_next=has_next) is status


def test_a_finished_run_never_changes_its_status() -> None:
    assert not [pair for pair in LEGAL_TRANSITIONS if pair[0].is_terminal]


def test_ids_made_later_sort_later_and_are_version_7() -> None:
    ids = [uuid7() for _ in range(50)]
    assert all(one.version == 7 and one.variant == "specified in RFC 4122" for one in ids)
    assert [one.int >> 80 for one in ids] == sorted(one.int >> 80 for one in ids)


def test_the_system_assistant_of_a_graph_has_the_id_that_clients_know() -> None:
    assert str(system_assistant_id("simple")) == "5e0f6b46-d00f-5af4-87dc-ea2105ff526d"


def test_the_request_wins_over_the_assistant_key_by_key() -> None:
    assistant = an_assistant(
        config={"tags": ["a"], "recursion_limit": 5, "configurable": {"model": "m", "tone": "dry"}},
        context={"model": "m", "tone": "dry"},
    )
    config, context = merge_config(assistant, {"recursion_limit": 9}, {"tone": "warm"}, {})
    assert config == {"tags": ["a"], "recursion_limit": 9, "configurable": {"model": "m", "tone": "warm"}}
    assert context == {"model": "m", "tone": "warm"}


def test_configurable_and_context_mirror_each_other() -> None:
    config, context = merge_config(an_assistant(), {"configurable": {"x": 1}}, None, {})
    assert config["configurable"] == context == {"x": 1}


def test_giving_both_is_refused() -> None:
    with pytest.raises(BadRequest):
        merge_config(an_assistant(), {"configurable": {"x": 1}}, {"x": 1}, {})


def test_a_client_cannot_set_the_servers_own_keys() -> None:
    config, _ = merge_config(
        an_assistant(), {"configurable": {"thread_id": "x", "__claim": 1, "langgraph_auth_user": {}, "ok": 1}}, None, {}
    )
    assert config["configurable"] == {"ok": 1}


def test_run_metadata_names_graph_and_assistant() -> None:
    metadata = merge_metadata(an_assistant(metadata={"team": "a"}), {"team": "b", "graph_id": "forged"})
    assert metadata["team"] == "b"
    assert metadata["graph_id"] == "echo"
    assert metadata["assistant_id"] == str(system_assistant_id("echo"))


def test_encode_replaces_what_utf8_cannot_hold() -> None:
    assert encode({"text": "a\ud800b"}) == b'{"text":"a?b"}'
