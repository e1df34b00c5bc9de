"""A run's events as server-sent events (server-api section 6).

Frames end in CRLF. `id:` is there only for resumable runs: clients read an id as "can be resumed". What is ready in
one turn of the loop leaves in one write, and a frame is encoded once for all readers of its run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import orjson

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.events import BEGINNING, End, EventId, StoredEvent, StreamMode
from heddle_core.usecases.run_commands import Attached
from heddle_server.http.streams.live import Heartbeat, Line, LiveResponse, OnGone

HEARTBEAT = b": heartbeat\r\n\r\n"

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no", "connection": "keep-alive"}


class EventStream(LiveResponse):
    """Writes a run's events until its end. `modes` None shows all that the run was asked for."""

    sign = HEARTBEAT

    def __init__(
        self,
        heartbeat: Heartbeat,
        attached: Attached,
        headers: dict[str, str],
        *,
        modes: frozenset[StreamMode] | None = None,
        on_gone: OnGone | None = None,
    ) -> None:
        super().__init__(heartbeat, {**_HEADERS, **headers}, "text/event-stream", on_gone)
        self._batches = attached.batches
        self._with_ids = attached.run.resumable
        self._modes = modes

    async def write_to(self, line: Line) -> bytes:
        try:
            async for batch in self._batches:
                frames, ended = self._frames(batch)
                if ended:
                    return frames
                if frames:
                    await line.write(frames)
        except Unavailable as error:  # the headers are out, so the stream itself has to say it
            return _error_frame("Unavailable", error.message)
        finally:
            await close(self._batches)
        return b""

    def _frames(self, batch: Sequence[StoredEvent | End]) -> tuple[bytes, bool]:
        ended = isinstance(batch[-1], End)
        modes = self._modes
        frames = [
            item.frame or _frame(item, with_id=self._with_ids)
            for item in batch
            if isinstance(item, StoredEvent) and (modes is None or item.event.mode is None or item.event.mode in modes)
        ]
        return (frames[0] if len(frames) == 1 else b"".join(frames)), ended


def _frame(stored: StoredEvent, *, with_id: bool) -> bytes:
    event = stored.event
    name = event.name if event.name.isprintable() else "".join(c if c.isprintable() else " " for c in event.name)
    if with_id:
        frame = b"event: %b\r\ndata: %b\r\nid: %b\r\n\r\n" % (name.encode(), event.data, str(stored.id).encode())
    else:
        frame = b"event: %b\r\ndata: %b\r\n\r\n" % (name.encode(), event.data)
    stored.frame = frame
    return frame


def _error_frame(error: str, message: str) -> bytes:
    return b"event: error\r\ndata: %b\r\n\r\n" % orjson.dumps({"error": error, "message": message})


async def close(batches: AsyncIterator[Sequence[StoredEvent | End]]) -> None:
    """Let go of the log now, not when the garbage collector comes by."""
    closing = getattr(batches, "aclose", None)
    if closing is not None:
        await closing()


def resume_after(last_event_id: str | None) -> EventId | None:
    """Where a reader goes on: None is live only. An id that is not ours replays everything, as `-1` does."""
    if not last_event_id:
        return None
    return EventId.parse(last_event_id) or BEGINNING
