"""What a run route knows of the request beside its body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from heddle_core.domain.ids import RunId, ThreadId
from heddle_core.domain.json import JsonObject
from heddle_core.domain.run import Run
from heddle_core.usecases.context import Ports
from heddle_server.http.options import HttpOptions
from heddle_server.http.streams.live import Heartbeat


@dataclass(frozen=True, slots=True)
class Caller:
    """The ports, and how this server talks to the client that asked."""

    ports: Ports
    heartbeat: Heartbeat
    options: HttpOptions
    configurable: JsonObject

    def at(self, run: Run, then: str = "") -> dict[str, str]:
        """Headers that say where a run on a thread is; `then` is where to go on when the connection breaks."""
        return self.at_ids(run.thread_id, run.run_id, then)

    def at_ids(self, thread_id: ThreadId, run_id: RunId, then: str = "") -> dict[str, str]:
        return self._places(f"/threads/{thread_id}/runs/{run_id}", then)

    def at_stateless(self, run: Run, then: str = "") -> dict[str, str]:
        return self._places(f"/runs/{run.run_id}", then)

    def _places(self, path: str, then: str) -> dict[str, str]:
        here = f"{self.options.mount_prefix}{path}"
        places = {"content-location": here}
        if then:
            places["location"] = f"{here}/{then}"
        return places


async def _caller(request: Request) -> Caller:
    state = request.app.state
    options: HttpOptions = state.options
    configurable = options.configurable_headers.pick(request.scope["headers"])
    configurable["langgraph_request_id"] = request.state.request_id
    return Caller(state.ports, state.heartbeat, options, configurable)


Who = Annotated[Caller, Depends(_caller)]
