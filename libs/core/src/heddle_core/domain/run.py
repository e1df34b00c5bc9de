"""A run: one execution of a graph on a thread, brought to exactly one outcome."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from heddle_core.domain.events import StreamMode
from heddle_core.domain.ids import AssistantId, RunId, ThreadId
from heddle_core.domain.json import Encoded, Json, JsonObject


class RunStatus(StrEnum):
    PENDING = "pending"  # waiting for a worker
    RUNNING = "running"  # claimed, under a lease
    SUCCESS = "success"  # it ended, or it paused for a person
    ERROR = "error"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"  # cancelled with action "interrupt"

    @property
    def is_terminal(self) -> bool:
        return self not in (RunStatus.PENDING, RunStatus.RUNNING)


class CancelAction(StrEnum):
    INTERRUPT = "interrupt"  # stop, keep what it did
    ROLLBACK = "rollback"  # stop, and remove the run and everything it wrote


class MultitaskStrategy(StrEnum):
    """What a new run does to the runs in flight on its thread."""

    REJECT = "reject"
    ENQUEUE = "enqueue"
    INTERRUPT = "interrupt"
    ROLLBACK = "rollback"


class Durability(StrEnum):
    SYNC = "sync"  # each step is committed before the next starts
    ASYNC = "async"  # written behind, committed before the run's answer
    EXIT = "exit"  # one checkpoint at the end; a crash starts over from the input


class OnDisconnect(StrEnum):
    CONTINUE = "continue"
    CANCEL = "cancel"


class IfNotExists(StrEnum):
    REJECT = "reject"
    CREATE = "create"


NodeNames = Literal["*"] | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKwargs:
    """What the caller asked the graph to do: enough to start it again after a crash.

    `config` is assistant and request merged (the request wins) and holds no key of the server's own.
    """

    input: Json = None
    command: JsonObject | None = None
    checkpoint: JsonObject | None = None
    config: JsonObject
    context: JsonObject | None = None
    stream_modes: tuple[StreamMode, ...] = (StreamMode.VALUES,)
    subgraphs: bool = False
    resumable: bool = False
    interrupt_before: NodeNames | None = None
    interrupt_after: NodeNames | None = None
    durability: Durability = Durability.ASYNC
    temporary: bool = False
    feedback_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run's row. `kwargs` and `metadata` are wire JSON, handed on as they are."""

    run_id: RunId
    thread_id: ThreadId
    assistant_id: AssistantId
    graph_id: str
    created_at: datetime
    updated_at: datetime
    status: RunStatus
    metadata: Encoded
    kwargs: Encoded
    multitask_strategy: MultitaskStrategy
    attempt: int = 0
    error: Encoded | None = None
    head_checkpoint_id: str | None = None
    resumable: bool = False
    ephemeral: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run about to be written. `metadata` is assistant and request merged; the thread's goes underneath it.

    `delay_seconds` above zero makes it due later; `ephemeral` means its thread is removed when it ends. `watched`:
    somebody waits for it, so if another process executes it, its end is announced, and the row of an ephemeral run
    stays for a while to answer from.
    """

    run_id: RunId
    thread_id: ThreadId
    assistant_id: AssistantId
    assistant_version: int
    graph_id: str
    metadata: Encoded
    kwargs: RunKwargs
    multitask_strategy: MultitaskStrategy = MultitaskStrategy.ENQUEUE
    if_not_exists: IfNotExists = IfNotExists.REJECT
    delay_seconds: float = 0.0
    ephemeral: bool = False
    watched: bool = False


class OutcomeKind(StrEnum):
    """How an attempt ended. The first four are run statuses; the others leave no finished run behind."""

    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    ROLLED_BACK = "rolled_back"  # row, checkpoints and writes are removed
    RELEASED = "released"  # back to pending, for this or another process (drain, infrastructure failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended. `error` is `{"error": class, "message": text}` for error and timeout."""

    kind: OutcomeKind
    error: Encoded | None = None

    @classmethod
    def success(cls) -> Outcome:
        return cls(kind=OutcomeKind.SUCCESS)

    @classmethod
    def failed(cls, error: Encoded) -> Outcome:
        return cls(kind=OutcomeKind.ERROR, error=error)

    @classmethod
    def timed_out(cls, error: Encoded) -> Outcome:
        return cls(kind=OutcomeKind.TIMEOUT, error=error)

    @classmethod
    def cancelled(cls, action: CancelAction) -> Outcome:
        rolled_back = action is CancelAction.ROLLBACK
        return cls(kind=OutcomeKind.ROLLED_BACK if rolled_back else OutcomeKind.INTERRUPTED)

    @classmethod
    def released(cls) -> Outcome:
        return cls(kind=OutcomeKind.RELEASED)


LEGAL_TRANSITIONS: frozenset[tuple[RunStatus, RunStatus]] = frozenset(
    {
        (RunStatus.PENDING, RunStatus.RUNNING),
        (RunStatus.PENDING, RunStatus.INTERRUPTED),
        (RunStatus.RUNNING, RunStatus.PENDING),
        (RunStatus.RUNNING, RunStatus.SUCCESS),
        (RunStatus.RUNNING, RunStatus.ERROR),
        (RunStatus.RUNNING, RunStatus.TIMEOUT),
        (RunStatus.RUNNING, RunStatus.INTERRUPTED),
    }
)
"""Every change of status there is. Removal of the row (rollback, delete) may come from any of them."""
