"""What the entrances hand to the use cases of runs, and what they get back.

Every entrance (a thread's runs, stateless runs, batch) says what it wants as a `StartRun`; it has been validated for
shape, and nothing in it has been looked up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from heddle_core.domain.events import End, StoredEvent, StreamMode
from heddle_core.domain.ids import ThreadId
from heddle_core.domain.json import Json, JsonObject
from heddle_core.domain.run import Durability, IfNotExists, MultitaskStrategy, NodeNames, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRun:
    """A wish to run a graph.

    `thread_id` None: stateless, on a hidden thread of its own that goes when the run ends, unless `keep`.
    `assistant` is the id of an assistant or the name of a graph. At most one of `config["configurable"]` and
    `context` is given. `watched`: somebody reads the events (a stream), not only the result (a wait).
    `headers_configurable` are the request headers that the configuration lets into `config.configurable`.
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
    keep: bool = False
    watched: bool = False
    request_id: str | None = None
    headers_configurable: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A run that is committed. It goes on whether or not anybody looks."""

    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A run with readers on its log, attached before it could say anything.

    Read one of the two. Each ends with `End`; one that is dropped unread costs the run nothing.
    """

    run: Run
    events: AsyncIterator[StoredEvent | End]
    result: AsyncIterator[End]
