"""Bodies of the run routes (server-api 5.3), and what they mean."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias
from uuid import UUID

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)
from typing_extensions import TypeAliasType

from heddle_core.domain.errors import BadRequest, InvalidRequest
from heddle_core.domain.events import StreamMode
from heddle_core.domain.ids import ThreadId
from heddle_core.domain.json import Json, JsonObject
from heddle_core.domain.run import Durability, IfNotExists, MultitaskStrategy, NodeNames, OnDisconnect, RunStatus
from heddle_core.usecases.run_commands import StartRun
from heddle_server.http.schemas.wire import Body

TEN_YEARS = 10 * 366 * 24 * 3600.0

ASSISTANT_REF = "assistant-ref"
"""The format of fields that hold an assistant id or a graph's name; what names there are is known at run time."""


class Send(Body):
    """A jump to a node with an input of its own."""

    nul_in: ClassVar[frozenset[str]] = frozenset({"input"})

    node: StrictStr
    input: Any = None


Target = TypeAliasType("Target", StrictStr | Send)
Goto = TypeAliasType("Goto", StrictStr | Send | list[Target])
Pair = tuple[StrictStr, Any]
StateUpdate = TypeAliasType("StateUpdate", dict[str, Any] | list[Pair])


class Command(Body):
    """What to do on a thread that waits: change its state, answer its interrupts, jump."""

    update: StateUpdate | None = None
    resume: Any = None
    goto: Goto | None = None


class Checkpoint(Body):
    """Where in a thread's history to start. Without an id: the newest."""

    thread_id: UUID | None = None
    checkpoint_ns: StrictStr | None = None
    checkpoint_id: StrictStr | None = None
    checkpoint_map: dict[str, Any] | None = None


class RunConfig(Body):
    """The part of a LangGraph config that callers may set."""

    tags: list[StrictStr] | None = None
    recursion_limit: Annotated[StrictInt, Field(ge=1, le=2**31 - 1)] | None = None
    configurable: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    run_name: StrictStr | None = None
    max_concurrency: Annotated[StrictInt, Field(ge=1, le=2**31 - 1)] | None = None


class LangsmithTracer(Body):
    """Taken and not used: this server sends nothing to LangSmith."""

    project_name: StrictStr | None = None
    example_id: StrictStr | None = None


def _nodes(names: Json) -> Json:
    return "*" if names == ["*"] else names


def _checkpoint_id(given: Json) -> Json:
    try:
        return str(UUID(given))
    except (ValueError, TypeError, AttributeError):
        raise InvalidRequest("Invalid checkpoint ID: must be a UUID") from None


StreamModes = TypeAliasType("StreamModes", StreamMode | list[StreamMode])
InterruptNodes = TypeAliasType("InterruptNodes", Literal["*"] | list[StrictStr])
Interrupts: TypeAlias = Annotated[InterruptNodes, BeforeValidator(_nodes)]


class RunCreate(Body):
    """A run to start. One body for threads and for stateless runs; each ignores what has no meaning for it."""

    not_yet: ClassVar[frozenset[str]] = frozenset({"webhook"})
    nul_in: ClassVar[frozenset[str]] = frozenset({"input", "command", "context"})

    assistant_id: Annotated[StrictStr, Field(min_length=1, json_schema_extra={"format": ASSISTANT_REF})]
    input: Any = None
    command: Command | None = None
    checkpoint: Checkpoint | None = None
    checkpoint_id: Annotated[UUID, BeforeValidator(_checkpoint_id)] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    config: RunConfig = Field(default_factory=RunConfig)
    context: dict[str, Any] | None = None
    interrupt_before: Interrupts | None = None
    interrupt_after: Interrupts | None = None
    stream_mode: StreamModes = StreamMode.VALUES
    stream_subgraphs: StrictBool = False
    stream_resumable: StrictBool = False
    feedback_keys: list[StrictStr] = Field(default_factory=list)
    langsmith_tracer: LangsmithTracer | None = None
    multitask_strategy: MultitaskStrategy = MultitaskStrategy.ENQUEUE
    if_not_exists: IfNotExists = IfNotExists.REJECT
    on_disconnect: OnDisconnect = OnDisconnect.CONTINUE
    on_completion: Literal["delete", "keep"] = "delete"
    after_seconds: Annotated[float, Field(ge=0, le=TEN_YEARS, allow_inf_nan=False, strict=True)] = 0.0
    durability: Durability | None = None
    checkpoint_during: StrictBool | None = Field(default=None, json_schema_extra={"deprecated": True})

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.context and self.config.configurable:
            raise BadRequest("Cannot specify both configurable and context. Prefer setting context alone.")
        return self

    def start_run(self, thread_id: ThreadId | None, extra_configurable: JsonObject) -> StartRun:
        """What this body asks for, on a thread, or None for a hidden one."""
        modes = self.stream_mode if isinstance(self.stream_mode, list) else [self.stream_mode]
        return StartRun(
            thread_id=thread_id,
            assistant=self.assistant_id,
            input=self.input,
            command=self._command(),
            checkpoint=self._base(),
            metadata=self.metadata,
            config=_given(self.config),
            context=self.context,
            stream_modes=tuple(dict.fromkeys(modes)),
            subgraphs=self.stream_subgraphs,
            resumable=self.stream_resumable,
            interrupt_before=_node_names(self.interrupt_before),
            interrupt_after=_node_names(self.interrupt_after),
            durability=self._durability(),
            feedback_keys=tuple(self.feedback_keys),
            multitask_strategy=self.multitask_strategy,
            if_not_exists=self.if_not_exists,
            delay_seconds=self.after_seconds,
            keep_thread=self.on_completion == "keep",
            extra_configurable=extra_configurable,
        )

    def _command(self) -> JsonObject | None:
        """An empty command is none, so that `command: {}` or `resume: null` does not hide the input."""
        return (_given(self.command) or None) if self.command else None

    def _base(self) -> JsonObject | None:
        base = _given(self.checkpoint) if self.checkpoint else {}
        base.pop("thread_id", None)
        if self.checkpoint_id is not None:
            base.setdefault("checkpoint_id", str(self.checkpoint_id))
        return base or None

    def _durability(self) -> Durability:
        if self.durability is not None:
            return self.durability
        return Durability.EXIT if self.checkpoint_during is False else Durability.ASYNC


def _given(body: Body) -> JsonObject:
    """The fields that hold something, as JSON; the user's own values inside them are not copied."""
    return {name: _plain(value) for name, value in body if value is not None}


def _plain(value: Json) -> Json:
    if isinstance(value, Send):
        return {"node": value.node, "input": value.input}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _node_names(given: Literal["*"] | list[str] | None) -> NodeNames | None:
    return tuple(given) if isinstance(given, list) else given


class RunsCancel(Body):
    """Which runs to cancel: all of a status, or the named ones of a thread."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["status"],
                    "properties": {
                        "status": {"type": "string"},
                        "thread_id": {"type": "null"},
                        "run_ids": {"type": "null"},
                    },
                },
                {
                    "required": ["thread_id", "run_ids"],
                    "properties": {
                        "status": {"type": "null"},
                        "thread_id": {"type": "string"},
                        "run_ids": {"type": "array"},
                    },
                },
            ]
        }
    )

    status: Literal["pending", "running", "all"] | None = None
    thread_id: UUID | None = None
    run_ids: list[UUID] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        by_id = self.thread_id is not None or self.run_ids is not None
        if self.status is not None and by_id:
            raise InvalidRequest("give either status or thread_id and run_ids, not both", field="body")
        if self.status is None and (self.thread_id is None or self.run_ids is None):
            raise InvalidRequest("give status, or thread_id and run_ids", field="body")
        return self

    @property
    def run_status(self) -> RunStatus | None:
        return RunStatus(self.status) if self.status in ("pending", "running") else None
