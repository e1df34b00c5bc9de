"""Reading checkpoints: one, many, and the history of delta channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite
from langgraph.checkpoint.serde.base import SerializerProtocol

from heddle_server.storage.checkpoint_codec import NOBODY, Blob, Stored, dump_filter

_READ: Final = "SELECT * FROM heddle.latest_checkpoint($1, $2, $3)"

_LIST: Final = """
SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id,
       c.checkpoint::text AS checkpoint, c.metadata::text AS metadata, w.*
  FROM (SELECT * FROM checkpoints {where} ORDER BY checkpoint_id DESC {limit}) c
  LEFT JOIN LATERAL (
       SELECT array_agg(r.task_id) AS tasks, array_agg(r.task_path) AS paths, array_agg(r.idx) AS idxs,
              array_agg(r.channel) AS channels, array_agg(r.type) AS types, array_agg(r.blob) AS blobs
         FROM (SELECT * FROM checkpoint_writes p
                WHERE p.thread_id = c.thread_id AND p.checkpoint_ns = c.checkpoint_ns
                  AND p.checkpoint_id = c.checkpoint_id
                ORDER BY p.task_path COLLATE "C", p.task_id COLLATE "C", p.idx) r) w ON true
 ORDER BY c.checkpoint_id DESC
"""

_BLOBS: Final = """
SELECT b.thread_id, b.checkpoint_ns, b.channel, b.version, b.type, b.blob
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k(thread, ns, channel, version)
  JOIN checkpoint_blobs b
    ON b.thread_id = k.thread AND b.checkpoint_ns = k.ns AND b.channel = k.channel AND b.version = k.version
"""

_SENDS: Final = """
SELECT thread_id, checkpoint_ns, checkpoint_id, type, blob
  FROM checkpoint_writes
 WHERE thread_id = ANY ($1) AND checkpoint_id = ANY ($2) AND channel = '__pregel_tasks'
 ORDER BY task_path COLLATE "C", task_id COLLATE "C", idx
"""

# The chain from a checkpoint to its oldest ancestor lies among the checkpoints that are not younger than it. Per
# channel: its version, whether a blob is stored under it, and the value that is stored inline.
_CHAIN: Final = """
SELECT c.checkpoint_id, c.parent_checkpoint_id,
       ARRAY(SELECT c.checkpoint -> 'channel_versions' ->> u.channel
               FROM unnest($3::text[]) WITH ORDINALITY AS u(channel, n) ORDER BY u.n) AS versions,
       ARRAY(SELECT EXISTS (SELECT FROM checkpoint_blobs b
                             WHERE b.thread_id = c.thread_id AND b.checkpoint_ns = c.checkpoint_ns
                               AND b.channel = u.channel AND b.type <> 'empty'
                               AND b.version = c.checkpoint -> 'channel_versions' ->> u.channel)
               FROM unnest($3::text[]) WITH ORDINALITY AS u(channel, n) ORDER BY u.n) AS has_blob,
       ARRAY(SELECT (c.checkpoint -> 'channel_values' -> u.channel)::text
               FROM unnest($3::text[]) WITH ORDINALITY AS u(channel, n) ORDER BY u.n) AS inline
  FROM checkpoints c
 WHERE c.thread_id = $1 AND c.checkpoint_ns = $2 AND c.checkpoint_id <= $4
 ORDER BY c.checkpoint_id DESC
 LIMIT $5
"""

_HISTORY: Final = """
SELECT NULL::text AS version, w.checkpoint_id, w.task_path, w.task_id, w.idx, w.channel, w.type, w.blob
  FROM unnest($3::text[], $4::text[]) AS k(channel, id)
  JOIN checkpoint_writes w
    ON w.thread_id = $1 AND w.checkpoint_ns = $2 AND w.checkpoint_id = k.id AND w.channel = k.channel
UNION ALL
SELECT b.version, NULL, '', '', 0, b.channel, b.type, b.blob
  FROM unnest($5::text[], $6::text[]) AS k(channel, version)
  JOIN checkpoint_blobs b
    ON b.thread_id = $1 AND b.checkpoint_ns = $2 AND b.channel = k.channel AND b.version = k.version
"""

_PAGE: Final = 1024


async def read_checkpoint(
    pool: asyncpg.Pool, thread: str, namespace: str, checkpoint_id: str | None
) -> Stored | None:
    """A checkpoint by id, or the newest of a namespace. One statement."""
    [record] = await pool.fetch(_READ, thread, namespace, checkpoint_id)
    return Stored.from_head(thread, namespace, record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which checkpoints a list means. None: any."""

    thread: str | None = None
    namespace: str | None = None
    id: str | None = None
    before: str | None = None
    metadata: Mapping[str, Any] | None = None
    limit: int | None = None

    @classmethod
    def of(
        cls,
        config: RunnableConfig | None,
        metadata: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Wanted:
        base = config["configurable"] if config else {}
        return cls(
            thread=base.get("thread_id"),
            namespace=base.get("checkpoint_ns"),
            id=base.get("checkpoint_id"),
            before=before["configurable"].get("checkpoint_id") if before else None,
            metadata=metadata or None,
            limit=limit,
        )

    def statement(self) -> tuple[str, list[object]]:
        conditions = {
            "thread_id = ${}": None if self.thread is None else str(self.thread),
            "checkpoint_ns = ${}": self.namespace,
            "checkpoint_id = ${}": self.id,
            "checkpoint_id < ${}": self.before,
            "metadata @> ${}::text::jsonb": None if self.metadata is None else dump_filter(self.metadata),
        }
        given = [(condition, value) for condition, value in conditions.items() if value is not None]
        clauses = [condition.format(n) for n, (condition, _) in enumerate(given, 1)]
        parameters: list[object] = [value for _, value in given]
        limit = ""
        if self.limit is not None:
            parameters.append(int(self.limit))
            limit = f"LIMIT ${len(parameters)}"
        return _LIST.format(where=f"WHERE {' AND '.join(clauses)}" if clauses else "", limit=limit), parameters

    def merged(self, found: Sequence[Stored], made: Sequence[Stored]) -> list[Stored]:
        """What was found, and what of `made` is meant, as one list."""
        merged = {(stored.namespace, stored.id): stored for stored in (*found, *filter(self._means, made))}
        return sorted(merged.values(), key=lambda stored: stored.id, reverse=True)[: self.limit]

    def _means(self, stored: Stored) -> bool:
        return (
            self.namespace in (None, stored.namespace)
            and self.id in (None, stored.id)
            and (self.before is None or stored.id < self.before)
            and _contains(orjson.loads(stored.metadata), self.metadata or {})
        )


def _contains(value: Any, part: Any) -> bool:
    """Containment as `jsonb` means it."""
    if isinstance(part, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and _contains(value[key], item) for key, item in part.items()
        )
    if isinstance(part, list):
        return isinstance(value, list) and all(any(_contains(one, item) for one in value) for item in part)
    return bool(value == part)


async def list_checkpoints(pool: asyncpg.Pool, wanted: Wanted) -> list[Stored]:
    """Checkpoints, newest first, each distinct blob fetched once. Two statements."""
    statement, parameters = wanted.statement()
    found = [
        Stored(
            thread=record["thread_id"],
            namespace=record["checkpoint_ns"],
            id=record["checkpoint_id"],
            parent=record["parent_checkpoint_id"],
            checkpoint=record["checkpoint"],
            metadata=record["metadata"],
            writes=[
                (NOBODY, record["thread_id"], record["checkpoint_ns"], record["checkpoint_id"], *write)
                for write in zip(
                    record["tasks"],
                    record["paths"],
                    record["idxs"],
                    record["channels"],
                    record["types"],
                    record["blobs"],
                    strict=True,
                )
            ]
            if record["tasks"]
            else (),
        )
        for record in await pool.fetch(statement, *parameters)
    ]
    await _add_blobs(pool, found)
    return found


async def _add_blobs(pool: asyncpg.Pool, found: Sequence[Stored]) -> None:
    contents = [orjson.loads(stored.checkpoint) for stored in found]
    keys = {
        (stored.thread, stored.namespace, channel, str(version))
        for stored, content in zip(found, contents, strict=True)
        for channel, version in content["channel_versions"].items()
    }
    if keys:
        rows = await pool.fetch(_BLOBS, *map(list, zip(*keys, strict=True)))
        blobs = {tuple(row)[:4]: Blob(row["version"], row["type"], row["blob"]) for row in rows}
        for stored, content in zip(found, contents, strict=True):
            for channel, version in content["channel_versions"].items():
                blob = blobs.get((stored.thread, stored.namespace, channel, str(version)))
                if blob is not None:
                    stored.blobs[channel] = blob
    old = [
        stored
        for stored, content in zip(found, contents, strict=True)
        if content["v"] < 4 and stored.parent is not None
    ]
    if old:
        await _add_old_sends(pool, old)


async def _add_old_sends(pool: asyncpg.Pool, old: Sequence[Stored]) -> None:
    sends: dict[tuple[str, str, str | None], list[tuple[str, bytes]]] = {}
    rows = await pool.fetch(_SENDS, [stored.thread for stored in old], [stored.parent for stored in old])
    for row in rows:
        key = row["thread_id"], row["checkpoint_ns"], row["checkpoint_id"]
        sends.setdefault(key, []).append((row["type"], row["blob"]))
    for stored in old:
        stored.sends = sends.get((stored.thread, stored.namespace, stored.parent), ())


@dataclass(slots=True, kw_only=True)
class _Walk:
    """One channel's way up the chain: the ancestors passed, oldest last, and where its stored value is."""

    ancestors: list[str]
    version: str | None = None
    inline: str | None = None
    done: bool = False


async def read_delta_history(
    pool: asyncpg.Pool,
    serde: SerializerProtocol,
    *,
    thread: str,
    namespace: str,
    checkpoint_id: str,
    channels: Sequence[str],
) -> dict[str, DeltaChannelHistory]:
    """What each channel was written since its last stored value, above `checkpoint_id`. Two statements.

    A chain of more than a thousand ancestors takes one more for each further thousand.
    """
    walks = {channel: _Walk(ancestors=[]) for channel in channels}
    rows: dict[str, asyncpg.Record] = {}
    oldest = checkpoint_id
    while True:
        page = await pool.fetch(_CHAIN, thread, namespace, list(channels), oldest, _PAGE)
        rows.update((row["checkpoint_id"], row) for row in page)
        complete = _climb(walks, rows, checkpoint_id)
        if complete or len(page) < _PAGE:
            break
        oldest = page[-1]["checkpoint_id"]
    pairs = [(channel, ancestor) for channel, walk in walks.items() for ancestor in walk.ancestors]
    seeds = [(channel, walk.version) for channel, walk in walks.items() if walk.version is not None]
    records = await pool.fetch(_HISTORY, thread, namespace, *_columns(pairs), *_columns(seeds)) if pairs else []
    return _histories(serde, walks, records)


def _columns(pairs: Sequence[tuple[str, str | None]]) -> tuple[list[str], list[str | None]]:
    return [first for first, _ in pairs], [second for _, second in pairs]


def _climb(walks: Mapping[str, _Walk], rows: Mapping[str, asyncpg.Record], start: str) -> bool:
    """Follow the parents as far as the rows go. True when every channel reached a stored value or the root."""
    for n, walk in enumerate(walks.values()):
        if walk.done:
            continue
        here = rows.get(walk.ancestors[-1] if walk.ancestors else start)
        while here is not None and not walk.done:
            parent = here["parent_checkpoint_id"]
            if parent is None:
                walk.done = True
                break
            here = rows.get(parent)
            if here is None:
                break
            walk.ancestors.append(parent)
            if here["has_blob"][n]:
                walk.version, walk.done = here["versions"][n], True
            elif here["inline"][n] is not None:
                walk.inline, walk.done = here["inline"][n], True
    return all(walk.done for walk in walks.values())


def _histories(
    serde: SerializerProtocol, walks: Mapping[str, _Walk], records: Sequence[asyncpg.Record]
) -> dict[str, DeltaChannelHistory]:
    writes: dict[tuple[str, str], list[PendingWrite]] = {}
    seeds: dict[str, Any] = {}
    for record in sorted(records, key=lambda r: (r["task_path"], r["task_id"], r["idx"])):
        channel = record["channel"]
        value = serde.loads_typed((record["type"], record["blob"]))
        if record["version"] is not None:
            seeds[channel] = value
        else:
            key = channel, record["checkpoint_id"]
            writes.setdefault(key, []).append((record["task_id"], channel, value))
    histories: dict[str, DeltaChannelHistory] = {}
    for channel, walk in walks.items():
        oldest_first = reversed(walk.ancestors)
        history: DeltaChannelHistory = {
            "writes": [write for ancestor in oldest_first for write in writes.get((channel, ancestor), ())]
        }
        if channel in seeds:
            history["seed"] = seeds[channel]
        elif walk.inline is not None:
            history["seed"] = orjson.loads(walk.inline)
        histories[channel] = history
    return histories
