"""A run's result as one JSON body, with newlines before it while the run goes on, so that proxies keep waiting."""

from __future__ import annotations

import orjson

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.events import End
from heddle_core.domain.json import EMPTY_OBJECT, Encoded
from heddle_core.usecases.run_commands import Attached
from heddle_server.http.answers import JSON
from heddle_server.http.streams.live import Heartbeat, Line, LiveResponse, OnGone
from heddle_server.http.streams.sse import close


class RunResult(LiveResponse):
    """Answers when the run has ended: with its result, or with `answer` whatever the result."""

    sign = b"\n"

    def __init__(
        self,
        heartbeat: Heartbeat,
        attached: Attached,
        headers: dict[str, str],
        *,
        answer: Encoded | None = None,
        on_gone: OnGone | None = None,
    ) -> None:
        super().__init__(heartbeat, headers, JSON, on_gone)
        self._batches = attached.batches
        self._answer = answer

    async def write_to(self, line: Line) -> bytes:
        try:
            async for batch in self._batches:
                if isinstance(end := batch[-1], End):
                    return self._answer or end.result or EMPTY_OBJECT
        except Unavailable as error:  # the status is out, so the body has to say it
            return orjson.dumps({"__error__": {"error": "Unavailable", "message": error.message}})
        finally:
            await close(self._batches)
        return self._answer or EMPTY_OBJECT
