"""The checkpointer: LangGraph's saver over asyncpg, on the table layout of langgraph-checkpoint-postgres.

Within a run, `configurable["__heddle_claim"]` holds the run's ledger: writes are appended to it and reach the
database behind the run, fenced by its lease (`sync` runs wait for each step's commit). A ledger without a claim (a
state update) only buffers. Calls without a ledger, such as a graph that a node invokes on a thread of its own, are
written directly, unfenced, and awaited. Works from any event loop: what needs the database runs on the flusher's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import asyncpg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.run import Durability
from heddle_server.storage.checkpoint_codec import (
    NOBODY,
    Blob,
    Stored,
    config_of,
    dump_checkpoint,
    dump_metadata,
    load_tuple,
    next_version,
)
from heddle_server.storage.checkpoint_reads import Wanted, list_checkpoints, read_checkpoint, read_delta_history
from heddle_server.storage.checkpoint_sync import SynchronousCalls
from heddle_server.storage.flusher import DATABASE_ERRORS, Flusher, is_transient
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.rows import WRITE_ROWS, BlobRow, Rows, WriteRow

T = TypeVar("T")

LEDGER_KEY: Final = "__heddle_claim"
"""The key of `configurable` under which a run's ledger travels. Keys that start with `__` stay out of metadata."""

_PAUSES: Final = (0.0, 0.02, 0.1)
_NOTHING_KNOWN: Final[Mapping[str, Blob]] = {}


class PostgresSaver(SynchronousCalls):
    """All eight capabilities of a checkpointer. Copies made by `with_allowlist` share pool and flusher."""

    def __init__(self, pool: asyncpg.Pool, flusher: Flusher, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self._pool = pool
        self._flusher = flusher

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        stored = await self._find(config)
        return _carrying(_ledger_of(config), load_tuple(self.serde, stored)) if stored else None

    async def _find(self, config: RunnableConfig) -> Stored | None:
        configurable = config["configurable"]
        thread = str(configurable["thread_id"])
        namespace: str = configurable.get("checkpoint_ns") or ""
        checkpoint_id: str | None = configurable.get("checkpoint_id")
        ledger = _ledger(configurable, thread)
        if ledger is None:
            return await self._read(thread, namespace, checkpoint_id)
        if checkpoint_id is None:
            known, head = ledger.latest(namespace, configurable.get("checkpoint_map") or {})
            if known:
                return head
            stored = await self._read_after_flush(ledger, namespace, None)
            ledger.remember(namespace, stored)
        else:
            if (found := ledger.find(namespace, checkpoint_id)) is not None:
                return found
            stored = await self._read_after_flush(ledger, namespace, checkpoint_id)
            if stored is not None:
                ledger.remember_opened(stored)
        return ledger.overlay(stored) if stored else None

    async def _read_after_flush(self, ledger: Ledger, namespace: str, checkpoint_id: str | None) -> Stored | None:
        if not ledger.is_detached:
            await self._flusher.flush_now(ledger)
        return await self._read(ledger.thread, namespace, checkpoint_id)

    async def _read(self, thread: str, namespace: str, checkpoint_id: str | None) -> Stored | None:
        return await self._ask(lambda: read_checkpoint(self._pool, thread, namespace, checkpoint_id))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the name is LangGraph's
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        wanted = Wanted.of(config, filter, before, limit)
        ledger = _ledger_of(config) if config else None
        if ledger is not None and not ledger.is_detached:
            await self._flusher.flush_now(ledger)
        found = await self._ask(lambda: list_checkpoints(self._pool, wanted))
        if ledger is not None:
            found = wanted.merged([ledger.overlay(stored) for stored in found], ledger.made)
        shared: dict[tuple[str, str, str, str], Any] = {}
        for stored in found:
            yield _carrying(ledger, load_tuple(self.serde, stored, shared))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        configurable = config["configurable"]
        thread = str(configurable["thread_id"])
        namespace: str = configurable.get("checkpoint_ns") or ""
        parent: str | None = configurable.get("checkpoint_id")
        ledger = _ledger(configurable, thread)
        known = ledger.known_blobs(namespace, parent) if ledger else _NOTHING_KNOWN
        dumped = dump_checkpoint(self.serde, checkpoint, new_versions, known)
        described = dump_metadata(config, metadata)
        if ledger is None:
            row = (NOBODY, thread, namespace, checkpoint["id"], parent, dumped.checkpoint, described)
            blobs: list[BlobRow] = [(NOBODY, thread, namespace, name, *blob) for name, blob in dumped.new.items()]
            await self._write(Rows(checkpoints=[row], blobs=blobs))
        else:
            # An input checkpoint waits for the step that takes it in: no node runs in between.
            step = metadata.get("source") != "input"
            ledger.put(namespace, checkpoint["id"], parent, dumped, described, step=step)
            await self._follow(ledger, waits=step)
        return _with_ledger(ledger, config_of(thread, namespace, checkpoint["id"]))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        configurable = config["configurable"]
        thread = str(configurable["thread_id"])
        namespace: str = configurable.get("checkpoint_ns") or ""
        checkpoint_id: str = configurable["checkpoint_id"]
        ledger = _ledger(configurable, thread)
        run = ledger.run_id if ledger else NOBODY
        dumps = self.serde.dumps_typed
        rows: list[WriteRow] = [
            (
                run,
                thread,
                namespace,
                checkpoint_id,
                task_id,
                task_path,
                WRITES_IDX_MAP.get(channel, index),
                channel,
                *dumps(value),
            )
            for index, (channel, value) in enumerate(writes)
        ]
        if ledger is None:
            await self._write(Rows(writes=_without_repeats(rows)))
        else:
            ledger.put_writes(namespace, checkpoint_id, task_id, rows)
            await self._follow(ledger, waits=False)

    async def _follow(self, ledger: Ledger, *, waits: bool) -> None:
        """See to it that what was appended is written: now, soon, or with the close."""
        if ledger.is_detached or ledger.durability is Durability.EXIT:
            return
        if ledger.durability is Durability.SYNC:
            if waits:
                await self._flusher.flush_now(ledger)
            return
        self._flusher.mark(ledger)

    async def _write(self, rows: Rows) -> None:
        await self._execute(WRITE_ROWS, [NOBODY], *rows.parameters())

    async def _execute(self, statement: str, *arguments: object) -> None:
        await self._ask(lambda: self._pool.execute(statement, *arguments))

    async def _ask(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do work on the database, on its loop; after a passing error again, for all of it may be repeated."""
        return await self._flusher.at_home(_insisting(work))

    async def adelete_thread(self, thread_id: str) -> None:
        await self._execute("SELECT heddle.delete_checkpoints($1)", [str(thread_id)])

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await self._execute("SELECT heddle.copy_checkpoints($1, $2)", str(source_thread_id), str(target_thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove what these runs stored, wherever it is. On a delta channel's chain this loses their updates."""
        await self._execute("SELECT heddle.delete_checkpoints_of($1)", [str(run_id) for run_id in run_ids])

    async def aprune(
        self, thread_ids: Sequence[str], *, strategy: Literal["keep_latest", "delete"] | str = "keep_latest"
    ) -> None:
        """`keep_latest` keeps the newest checkpoint of each namespace, without subgraph calls that are over.

        Nothing may run on the threads meanwhile. Raises `NotImplementedError` for threads with delta channels,
        whose state is spread over their history, and then removes nothing.
        """
        if isinstance(thread_ids, str):
            raise TypeError("thread_ids must be a sequence of thread ids, not one string")
        threads = [str(thread_id) for thread_id in thread_ids]
        if strategy == "delete":
            await self._execute("SELECT heddle.delete_checkpoints($1)", threads)
        elif strategy == "keep_latest":
            await self._ask(lambda: self._keep_latest(threads))
        else:
            raise ValueError(f"unknown prune strategy {strategy!r}: use 'keep_latest' or 'delete'")

    async def _keep_latest(self, threads: list[str]) -> None:
        delta = await self._pool.fetchval("SELECT heddle.delta_threads($1)", threads)
        if delta:
            raise NotImplementedError(f"keep_latest cannot prune threads that use a DeltaChannel: {', '.join(delta)}")
        for thread in threads:
            await self._pool.execute("SELECT heddle.prune_checkpoints($1)", thread)

    def get_next_version(self, current: str | int | float | None, channel: None) -> str:
        return next_version(current)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        configurable = config["configurable"]
        thread = str(configurable["thread_id"])
        namespace: str = configurable.get("checkpoint_ns") or ""
        ledger = _ledger(configurable, thread)
        if not channels:
            return {}
        if ledger is not None and ledger.is_detached:
            return await self._walk_delta_history(ledger, config, channels)
        checkpoint_id = configurable.get("checkpoint_id")
        if checkpoint_id is None:
            latest = await self._find(config)
            if latest is None:
                return {channel: {"writes": []} for channel in channels}
            checkpoint_id = latest.id
        if ledger is not None:
            await self._flusher.flush_now(ledger)
        return await self._ask(
            lambda: read_delta_history(
                self._pool,
                self.serde,
                thread=thread,
                namespace=namespace,
                checkpoint_id=checkpoint_id,
                channels=channels,
            )
        )

    async def _walk_delta_history(
        self, ledger: Ledger, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Checkpoint by checkpoint, because the chain goes through some that no statement sees yet."""
        histories: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        open_channels = set(channels)
        here = await self._find(config)
        while here is not None and here.parent is not None and open_channels:
            here = await self._find(_with_ledger(ledger, config_of(here.thread, here.namespace, here.parent)))
            if here is None:
                break
            found = load_tuple(self.serde, here)
            for channel in list(open_channels):
                writes = [write for write in found.pending_writes or () if write[1] == channel]
                histories[channel]["writes"][:0] = writes
                if channel in found.checkpoint["channel_values"]:
                    histories[channel]["seed"] = found.checkpoint["channel_values"][channel]
                    open_channels.discard(channel)
        return histories


async def _insisting(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    # When the server ends its connections, each of a pool may fail once before it is replaced.
    for pause in _PAUSES:
        try:
            return await work()
        except DATABASE_ERRORS as error:
            if not is_transient(error):
                raise
        await asyncio.sleep(pause)
    try:
        return await work()
    except DATABASE_ERRORS as error:
        if not is_transient(error):
            raise
        raise Unavailable(f"the database does not answer: {error}") from error


def _ledger(configurable: Mapping[str, Any], thread: str) -> Ledger | None:
    """The ledger of this call. One that a node handed on to a graph on another thread does not count."""
    ledger = configurable.get(LEDGER_KEY)
    return ledger if isinstance(ledger, Ledger) and ledger.thread == thread else None


def _ledger_of(config: RunnableConfig) -> Ledger | None:
    return _ledger(config["configurable"], str(config["configurable"].get("thread_id")))


def _with_ledger(ledger: Ledger | None, config: RunnableConfig) -> RunnableConfig:
    """LangGraph goes on with the configurations it gets back: in state updates, in reads of delta channels."""
    if ledger is not None:
        config["configurable"][LEDGER_KEY] = ledger
    return config


def _carrying(ledger: Ledger | None, found: CheckpointTuple) -> CheckpointTuple:
    _with_ledger(ledger, found.config)
    if found.parent_config is not None:
        _with_ledger(ledger, found.parent_config)
    return found


def _without_repeats(rows: Sequence[WriteRow]) -> list[WriteRow]:
    """One row per key, as one statement wants it: of reserved writes the last, of ordinary ones the first."""
    kept: dict[tuple[str, int], WriteRow] = {}
    for row in rows:
        if row[6] < 0 or (row[4], row[6]) not in kept:
            kept[row[4], row[6]] = row
    return list(kept.values())
