"""What callers ask of runs, and what they get."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from heddle_core.domain.events import End, StoredEvent, StreamMode
from heddle_core.domain.ids import ThreadId
from heddle_core.domain.json import Json, JsonObject
from heddle_core.domain.run import Durability, IfNotExists, MultitaskStrategy, NodeNames, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRun:
    """A run as the caller described it. `thread_id` None: stateless, on a thread of its own.

    `assistant` is an assistant id or a graph id. `keep_thread`: a stateless run leaves its thread behind
    (`on_completion: keep`). `extra_configurable` holds what the server adds to `config.configurable` (request
    headers let through by configuration, the request id).
    """

    thread_id: ThreadId | None
    assistant: str
    input: Json = None
    command: JsonObject | None = None
    checkpoint: JsonObject | None = None
    metadata: JsonObject = field(default_factory=dict)
    config: JsonObject = field(default_factory=dict)
    context: JsonObject | None = None
    stream_modes: tuple[StreamMode, ...] = (StreamMode.VALUES,)
    subgraphs: bool = False
    resumable: bool = False
    interrupt_before: NodeNames | None = None
    interrupt_after: NodeNames | None = None
    durability: Durability = Durability.ASYNC
    feedback_keys: tuple[str, ...] = ()
    multitask_strategy: MultitaskStrategy = MultitaskStrategy.ENQUEUE
    if_not_exists: IfNotExists = IfNotExists.REJECT
    delay_seconds: float = 0.0
    keep_thread: bool = False
    extra_configurable: JsonObject = field(default_factory=dict)


class Batches(Protocol):
    """An async iterator of lists of events that must be closed."""

    def __aiter__(self) -> AsyncIterator[Sequence[StoredEvent | End]]: ...

    async def __anext__(self) -> Sequence[StoredEvent | End]: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A run and a reader of its log, attached before the run could say anything that the reader would miss.

    `batches` yields, in order, lists of what is ready in one loop turn (an encoder writes each in one go); the last
    item of the last list is an `End`. It must be closed (`aclose`) when the client goes away. For a run executed by
    another process it yields `metadata`, then, when the run's row ends, the final `values` or `error`, then `End`.
    """

    run: Run
    batches: Batches
