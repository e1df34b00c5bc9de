"""How a run's configuration comes together (server-api 7.9): assistant, then request; the later wins."""

from __future__ import annotations

from heddle_core.domain.assistant import Assistant
from heddle_core.domain.errors import BadRequest
from heddle_core.domain.json import JsonObject

SERVER_KEYS = frozenset(
    {
        "thread_id",
        "run_id",
        "assistant_id",
        "graph_id",
        "user_id",
        "langgraph_auth_user",
        "langgraph_auth_user_id",
        "langgraph_auth_permissions",
        "langgraph_request_id",
        "checkpoint_id",
        "checkpoint_ns",
        "checkpoint_map",
    }
)
"""Keys of `configurable` that are the server's to set; what a client says there is dropped."""


def merge_config(
    assistant: Assistant, config: JsonObject, context: JsonObject | None, extra: JsonObject
) -> tuple[JsonObject, JsonObject]:
    """The run's config and context. `configurable` and `context` mirror each other; giving both is refused."""
    asked = config.get("configurable") or {}
    if asked and context:
        raise BadRequest("Cannot specify both configurable and context. Prefer setting context alone.")
    given = context or {k: v for k, v in asked.items() if k not in SERVER_KEYS and not k.startswith("__")}
    merged: JsonObject = {**assistant.config, **{k: v for k, v in config.items() if k != "configurable"}}
    merged["configurable"] = {**assistant.config.get("configurable", {}), **given, **extra}
    return merged, {**assistant.context, **given}


def merge_metadata(assistant: Assistant, metadata: JsonObject) -> JsonObject:
    """Run metadata without the thread's, which goes underneath when the run is written."""
    return {
        **assistant.metadata,
        **metadata,
        "created_by": metadata.get("created_by", "system"),
        "graph_id": assistant.graph_id,
        "assistant_id": str(assistant.assistant_id),
    }
