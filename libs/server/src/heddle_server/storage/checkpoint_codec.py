"""How a checkpoint looks in the database: the stock layout, and what of it is kept inline.

A channel's value is either inline in the checkpoint's JSON or a blob row under its version. The stock saver keeps
every primitive inline, which loses floats that look whole, fails on NUL and rewrites long strings in every step;
here only what JSON and `jsonb` hold exactly stays inline, everything else is a blob. A reader takes both; a blob
wins.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

import orjson
from asyncpg import Record
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import TASKS, _DeltaSnapshot

from heddle_server.storage.rows import WriteRow

INLINE_LIMIT: Final = 1024
NOBODY: Final = UUID(int=0)
"""The run of rows that were read, or that no run wrote."""

_INT64 = range(-(2**63), 2**63)
_EMPTY = "empty"  # a blob row without a value, in data of older savers


class Blob(NamedTuple):
    """One stored channel value."""

    version: str
    type: str
    data: bytes


@dataclass(slots=True, kw_only=True)
class Stored:
    """A checkpoint as it is stored, with everything needed to make a tuple of it."""

    thread: str
    namespace: str
    id: str
    parent: str | None
    checkpoint: str
    metadata: str
    blobs: dict[str, Blob] = field(default_factory=dict)
    writes: Sequence[WriteRow] = ()
    sends: Sequence[tuple[str, bytes]] = ()

    @classmethod
    def from_head(cls, thread: str, namespace: str, record: Record) -> Stored | None:
        """From the columns of `heddle.latest_checkpoint`."""
        checkpoint_id = record["head_id"]
        if checkpoint_id is None:
            return None
        channels = record["head_channels"] or ()
        tasks = record["head_write_tasks"] or ()
        return cls(
            thread=thread,
            namespace=namespace,
            id=checkpoint_id,
            parent=record["head_parent"],
            checkpoint=record["head_checkpoint"],
            metadata=record["head_metadata"],
            blobs={
                channel: Blob(version, type_, data)
                for channel, version, type_, data in zip(
                    channels, record["head_versions"], record["head_types"], record["head_blobs"], strict=True
                )
            }
            if channels
            else {},
            writes=[
                (NOBODY, thread, namespace, checkpoint_id, *write)
                for write in zip(
                    tasks,
                    record["head_write_paths"],
                    record["head_write_idxs"],
                    record["head_write_channels"],
                    record["head_write_types"],
                    record["head_write_blobs"],
                    strict=True,
                )
            ]
            if tasks
            else (),
            sends=list(zip(record["head_send_types"], record["head_send_blobs"], strict=True))
            if record["head_send_types"]
            else (),
        )


def write_order(row: WriteRow) -> tuple[str, str, int]:
    """The order in which a superstep applies its writes: task path, task, index."""
    return row[5], row[4], row[6]


def config_of(thread: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id},
    }


def load_tuple(
    serde: SerializerProtocol, stored: Stored, shared: dict[tuple[str, str, str, str], Any] | None = None
) -> CheckpointTuple:
    """The tuple LangGraph works with; fresh objects each time, except values found in or added to `shared`."""
    checkpoint = _read_json(stored.checkpoint)
    values = checkpoint["channel_values"] = _exact(checkpoint.get("channel_values") or {}, stored.checkpoint)
    loads = serde.loads_typed
    for channel, (version, type_, data) in stored.blobs.items():
        if type_ == _EMPTY:
            continue
        if shared is None:
            values[channel] = loads((type_, data))
            continue
        key = (stored.thread, stored.namespace, channel, version)
        if key not in shared:
            shared[key] = loads((type_, data))
        values[channel] = shared[key]
    if stored.sends:
        _add_sends(checkpoint, [loads(send) for send in stored.sends])
    parent = config_of(stored.thread, stored.namespace, stored.parent) if stored.parent else None
    return CheckpointTuple(
        config_of(stored.thread, stored.namespace, stored.id),
        cast(Checkpoint, checkpoint),
        cast(CheckpointMetadata, _read_json(stored.metadata)),
        parent,
        [_pending(serde, row) for row in stored.writes],
    )


def _pending(serde: SerializerProtocol, row: WriteRow) -> PendingWrite:
    return row[4], row[7], serde.loads_typed((row[8], row[9]))


def _read_json(text: str) -> dict[str, Any]:
    return cast(dict[str, Any], orjson.loads(text))


def _exact(values: dict[str, Any], text: str) -> dict[str, Any]:
    """The inline values, with whole numbers beyond 64 bits intact (only other savers store them inline)."""
    for value in values.values():
        if type(value) is float and abs(value) >= 2**63:
            return cast(dict[str, Any], json.loads(text)["channel_values"])
    return values


def _add_sends(checkpoint: dict[str, Any], sends: list[Any]) -> None:
    """Before format 4 the sends of a step were kept as writes of the parent."""
    versions = checkpoint["channel_versions"]
    checkpoint["channel_values"][TASKS] = sends
    versions[TASKS] = max(versions.values()) if versions else next_version(None)


def next_version(current: str | int | float | None) -> str:
    """Versions sort as text; the fraction keeps those of two branches apart."""
    number = 0 if current is None else int(current.split(".", 1)[0]) if isinstance(current, str) else int(current)
    return f"{number + 1:032}.{random.random():016}"


def _inlines(value: Any) -> bool:
    """Do JSON and `jsonb` hold this value exactly, in little space?"""
    kind = type(value)
    if kind is str:
        return len(value) <= INLINE_LIMIT and "\0" not in value and (value.isascii() or _encodes(value))
    return value is None or kind is bool or (kind is int and value in _INT64)


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


@dataclass(slots=True, kw_only=True)
class Dumped:
    """A checkpoint ready to be stored. `new` are the blobs to write, a part of `blobs`."""

    checkpoint: str
    blobs: dict[str, Blob]
    new: dict[str, Blob]


def dump_checkpoint(
    serde: SerializerProtocol,
    checkpoint: Checkpoint,
    new_versions: ChannelVersions,
    known: Mapping[str, Blob],
) -> Dumped:
    """Serialize now, because the values are live objects that the graph goes on changing.

    `known` are blob rows that exist: a value is left out only when its blob is written here or is among them. A
    value that other savers keep inline, and that did not change, would otherwise be lost with the next checkpoint.
    """
    inline: dict[str, Any] = {}
    blobs: dict[str, Blob] = {}
    new: dict[str, Blob] = {}
    versions = checkpoint["channel_versions"]
    sealed = isinstance(serde, EncryptedSerializer)  # inline values would be in clear
    for channel, value in checkpoint["channel_values"].items():
        if (value is None or type(value) is bool) if sealed else _inlines(value):
            inline[channel] = value
            continue
        if isinstance(value, _DeltaSnapshot):
            inline[channel] = True  # the stock saver's mark of a snapshot
        version = str(_version_of(channel, versions, new_versions))
        blob = known.get(channel)
        if blob is None or blob.version != version or channel in new_versions:
            blob = new[channel] = Blob(version, *serde.dumps_typed(value))
        blobs[channel] = blob
    content = {**checkpoint, "channel_values": inline}
    return Dumped(checkpoint=orjson.dumps(content).decode(), blobs=blobs, new=new)


def _version_of(channel: str, versions: ChannelVersions, new_versions: ChannelVersions) -> str | int | float:
    version = versions.get(channel, new_versions.get(channel))
    if version is None:
        raise ValueError(
            f"channel {channel!r} has a value but no version: add it to the checkpoint's channel_versions"
        )
    return version


def dump_metadata(config: RunnableConfig, metadata: CheckpointMetadata) -> str:
    """Checkpoint metadata as `jsonb` can hold it: without NUL, lone surrogates and NaN."""
    content = get_serializable_checkpoint_metadata(config, metadata)
    try:
        encoded = orjson.dumps(content)
    except TypeError:  # a lone surrogate, a large int, a key that is no string, or an object that is no JSON
        encoded = b"\\u0000"
    if b"\\u0000" in encoded:
        return json.dumps(_clean(content), allow_nan=False)
    return encoded.decode()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {_clean(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def dump_filter(metadata: Mapping[str, Any]) -> str:
    """A metadata filter as JSON, cleaned like the metadata it is compared with."""
    return json.dumps(_clean(dict(metadata)), allow_nan=False)
