"""How configurable and context mirror each other, and what a change makes of a version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heddle_core.domain.assistant import AssistantChange, AssistantContent, changed, mirrored
from heddle_core.domain.errors import BadRequest
from heddle_core.domain.json import JsonObject

NOW = AssistantContent(
    graph_id="agent",
    name="one",
    description="first",
    config={"tags": ["t"], "configurable": {"a": 1}},
    context={"a": 1},
    metadata={"kept": 1, "changed": 1},
)


@pytest.mark.parametrize(
    ("config", "context", "expected"),
    [
        (None, None, ({}, {})),
        ({"configurable": {"a": 1}}, None, ({"configurable": {"a": 1}}, {"a": 1})),
        (None, {"a": 1}, ({"configurable": {"a": 1}}, {"a": 1})),
        ({"tags": ["t"]}, {"a": 1}, ({"tags": ["t"], "configurable": {"a": 1}}, {"a": 1})),
        ({"configurable": {}}, {"a": 1}, ({"configurable": {"a": 1}}, {"a": 1})),
        ({"configurable": {"a": 1}}, {}, ({"configurable": {"a": 1}}, {"a": 1})),
        ({"recursion_limit": 5}, None, ({"recursion_limit": 5}, {})),
    ],
)
def test_whichever_of_the_two_is_given_fills_the_other(
    config: JsonObject | None, context: JsonObject | None, expected: tuple[JsonObject, JsonObject]
) -> None:
    assert mirrored(config, context) == expected


def test_giving_both_is_refused() -> None:
    with pytest.raises(BadRequest, match="Cannot specify both configurable and context"):
        mirrored({"configurable": {"a": 1}}, {"a": 1})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (AssistantChange(), {}),
        (AssistantChange(name="two"), {"name": "two"}),
        (AssistantChange(metadata={"changed": 2, "new": 3}), {"metadata": {"kept": 1, "changed": 2, "new": 3}}),
        (AssistantChange(config={"recursion_limit": 3}), {"config": {"recursion_limit": 3}, "context": {}}),
        (
            AssistantChange(config={"configurable": {"b": 2}}),
            {"config": {"configurable": {"b": 2}}, "context": {"b": 2}},
        ),
        (
            AssistantChange(context={"b": 2}),
            {"config": {"tags": ["t"], "configurable": {"b": 2}}, "context": {"b": 2}},
        ),
        (AssistantChange(context={}), {"config": {"tags": ["t"]}, "context": {}}),
        (
            AssistantChange(config={"tags": []}, context={"b": 2}),
            {"config": {"tags": [], "configurable": {"b": 2}}, "context": {"b": 2}},
        ),
    ],
)
def test_a_change_replaces_what_it_names_and_merges_metadata(change: AssistantChange, expected: JsonObject) -> None:
    assert changed(NOW, change) == replace(NOW, **expected)
