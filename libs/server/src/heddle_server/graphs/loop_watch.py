"""Says by name which run and node block an event loop.

A thread asks the loop for a sign of life; when none comes in time it looks at what the loop's thread is doing.
An async node that calls blocking code is the usual culprit, and without this it shows only as a slow server.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Self

import structlog

from heddle_server.graphs.guests import Guest

log = structlog.get_logger(__name__)

_SHOWN_FRAMES = 6


class LoopWatch:
    """Watches the loop it is entered in. `late`: how long a loop may be silent; `period`: how often it is asked."""

    def __init__(
        self, *, late: timedelta = timedelta(milliseconds=250), period: timedelta = timedelta(seconds=1)
    ) -> None:
        self._late = late.total_seconds()
        self._period = period.total_seconds()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Self:
        if self._thread is None:
            watched = (asyncio.get_running_loop(), threading.get_ident())
            self._thread = threading.Thread(target=self._watch, args=watched, name="heddle-loop-watch", daemon=True)
            self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        while not self._stopping.wait(self._period):
            alive = threading.Event()
            asked = time.monotonic()
            try:
                loop.call_soon_threadsafe(alive.set)
            except RuntimeError:
                return  # the loop is closed
            if alive.wait(self._late):
                continue
            blocked = _look(thread_id)
            while not alive.wait(self._period) and not self._stopping.is_set():
                pass  # one report for one blockage, when its length is known
            log.warning("loop_blocked", seconds=round(time.monotonic() - asked, 3), **blocked)


def _look(thread_id: int) -> dict[str, object]:
    """What the thread is doing now, and for which run and node."""
    found: dict[str, object] = {}
    frame = sys._current_frames().get(thread_id)
    if frame is None:
        return found
    found["stack"] = "".join(traceback.format_stack(frame)[-_SHOWN_FRAMES:])  # one text: the console wants it so
    found["at"] = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
    outer: FrameType | None = frame
    while outer is not None:
        guest = outer.f_locals.get("guest")
        if isinstance(guest, Guest):
            found |= {"run_id": guest.run_id, "graph_id": guest.graph_id}
            break
        if "node" not in found and (node := _node(outer.f_locals.get("config"))):
            found["node"] = node
        outer = outer.f_back
    return found


def _node(config: object) -> object:
    """The node whose config this is; LangGraph's functions around a node have it in a local of that name."""
    metadata = config.get("metadata") if isinstance(config, dict) else None
    return metadata.get("langgraph_node") if isinstance(metadata, dict) else None
