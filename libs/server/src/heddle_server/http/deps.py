"""What routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from heddle_core.usecases.context import Ports


async def _ports(request: Request) -> Ports:
    ports: Ports = request.app.state.ports
    return ports


App = Annotated[Ports, Depends(_ports)]
