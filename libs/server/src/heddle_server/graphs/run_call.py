"""What LangGraph is called with for one run: input, config, context and options (server-api 5.3, 7.6, 7.7, 7.9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, cast

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send
from pydantic import BaseModel

from heddle_core.domain.errors import InvalidRequest
from heddle_core.domain.json import Encoded, JsonObject
from heddle_core.domain.run import NodeNames
from heddle_core.ports.run_queue import Claim

CLAIM_KEY = "__heddle_claim"
"""Where the checkpointer finds the claim's ledger. Keys that start with `__` stay out of checkpoint metadata."""

POSITION_KEYS = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
_RESERVED = frozenset({"thread_id", "run_id", "assistant_id", "graph_id", *POSITION_KEYS})
_NOTHING = frozenset(
    {Encoded(b"{}"), Encoded(b"null"), Encoded(b'{"configurable":{}}'), Encoded(b'{"configurable": {}}')}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What every run's metadata says of the server it ran on."""

    api_version: str = "0.16.7"
    plan: str = "developer"
    host: str = "self-hosted"
    api_url: str | None = None

    def as_metadata(self) -> JsonObject:
        found = {
            "langgraph_version": version("langgraph"),
            "langgraph_api_version": self.api_version,
            "langgraph_plan": self.plan,
            "langgraph_host": self.host,
            "langgraph_api_url": self.api_url,
        }
        return {name: value for name, value in found.items() if value is not None}


def run_config(claim: Claim, server: JsonObject) -> RunnableConfig:
    """The config of a claimed run. What the client says about ids, `__` keys and the like does not count."""
    given = _loads(claim.thread_config)
    ours = claim.kwargs.config
    configurable: JsonObject = {
        **_allowed(given.get("configurable")),
        **_allowed(claim.kwargs.context),
        **_allowed(ours.get("configurable")),
        "run_id": str(claim.run_id),
        "thread_id": str(claim.thread_id),
        "graph_id": claim.graph_id,
        "assistant_id": str(claim.assistant_id),
        CLAIM_KEY: claim.ledger,
    }
    if not claim.already_started:
        configurable |= position(claim.kwargs.checkpoint or _positions(ours.get("configurable")))
    config: JsonObject = {
        "configurable": configurable,
        "metadata": {
            **(ours.get("metadata") or {}),
            **_loads(claim.run.metadata),
            **server,
            "run_attempt": claim.attempt,
        },
        "run_id": claim.run_id,
    }
    for name in ("tags", "recursion_limit", "max_concurrency", "run_name"):
        value = ours.get(name, given.get(name))
        if value is not None:
            config[name] = value
    return cast(RunnableConfig, config)


def position(checkpoint: JsonObject | None) -> JsonObject:
    """The parts of a checkpoint reference that say where: `{checkpoint_id, ...}` or `{configurable: {...}}`."""
    if not checkpoint:
        return {}
    found = checkpoint.get("configurable") or checkpoint
    return {name: found[name] for name in POSITION_KEYS if found.get(name) is not None}


def run_input(claim: Claim) -> Any:
    """None continues from the checkpoint: a run that has started already, and one without input or command."""
    kwargs = claim.kwargs
    if claim.already_started:
        return None
    command = to_command(kwargs.command)
    if command is not None:
        return command
    if kwargs.command is not None and kwargs.input == {}:
        return None
    return kwargs.input


def to_command(given: JsonObject | None) -> Command[Any] | None:
    """A command of the wire as LangGraph's; None when it asks for nothing. `resume: null` is not a resume."""
    if not given:
        return None
    resume, update, goto = given.get("resume"), given.get("update"), given.get("goto")
    if resume is None and update is None and not goto:
        return None
    return Command(resume=resume, update=_update(update), goto=_goto(goto))


def ends_the_thread(claim: Claim) -> bool:
    """Is this the command that a chat UI marks a question as resolved with (clients section 2)?"""
    command = claim.kwargs.command or {}
    return (
        not claim.already_started and command.get("goto") in ("__end__", ["__end__"]) and command.get("resume") is None
    )


def pauses(names: NodeNames | None) -> Any:
    """Node names for `interrupt_before` and `interrupt_after`; `*` stays a string, or it would be a node's name."""
    if names is None:
        return None
    return "*" if names == "*" or tuple(names) == ("*",) else list(names)


def run_context(claim: Claim, schema: Any) -> Any:
    """What the caller gave as context, or the configurable it mirrors; None when the schema wants more."""
    if claim.kwargs.context:
        return claim.kwargs.context
    mirrored = _allowed(claim.kwargs.config.get("configurable"))
    if schema is None:
        return mirrored or None
    known, required = _context_fields(schema)
    if known is not None:
        mirrored = {name: value for name, value in mirrored.items() if name in known}
    return mirrored if required <= mirrored.keys() else None


@lru_cache(maxsize=256)
def _context_fields(schema: Any) -> tuple[frozenset[str] | None, frozenset[str]]:
    """The names a context schema knows (None: any) and those it cannot do without."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        found = schema.model_fields.items()
        return frozenset(schema.model_fields), frozenset(name for name, field in found if field.is_required())
    if is_dataclass(schema):
        required = (f.name for f in fields(schema) if f.default is MISSING and f.default_factory is MISSING)
        return frozenset(f.name for f in fields(schema)), frozenset(required)
    return None, frozenset()


def _allowed(configurable: Any) -> JsonObject:
    """A client's configurable without the keys that are the server's to set."""
    if not isinstance(configurable, Mapping):
        return {}
    return {name: value for name, value in configurable.items() if name not in _RESERVED and not name.startswith("__")}


def _positions(configurable: Any) -> JsonObject | None:
    """The older way to name a checkpoint: inside the configurable. Only an id counts."""
    return configurable if isinstance(configurable, dict) and configurable.get("checkpoint_id") else None


def _loads(text: Encoded) -> JsonObject:
    return {} if text in _NOTHING else orjson.loads(text) or {}


def _update(update: Any) -> Any:
    if isinstance(update, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in update):
        return [tuple(pair) for pair in update]
    return update


def _goto(goto: Any) -> Any:
    if isinstance(goto, list):
        return [_goto(one) for one in goto]
    if isinstance(goto, dict):
        if not isinstance(goto.get("node"), str):
            raise InvalidRequest("must be a node's name or {node, input}", field="command.goto")
        return Send(goto["node"], goto.get("input"))
    return goto or ()
