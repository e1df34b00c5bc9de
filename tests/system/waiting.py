"""Waits for something that can be seen, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from langgraph_sdk.client import LangGraphClient

DEADLINE_SECONDS = 20.0


async def until(seen: Callable[[], Awaitable[bool]], seconds: float = DEADLINE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not await seen():
            await asyncio.sleep(0.02)


async def until_status(client: LangGraphClient, thread_id: str, run_id: str, status: str) -> None:
    async def seen() -> bool:
        return (await client.runs.get(thread_id, run_id))["status"] == status

    await until(seen)
