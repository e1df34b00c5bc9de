"""LangGraph's published suite for checkpointers, with and without a claim."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer
from langgraph.checkpoint.conformance.report import CapabilityReport
from langgraph.checkpoint.conformance.validate import validate

from heddle_server.storage.checkpoints import LEDGER_KEY, PostgresSaver
from heddle_server.storage.ledger import Ledger
from tests.support.checkpoint_world import CheckpointWorld


async def report_on(saver: BaseCheckpointSaver[Any]) -> CapabilityReport:
    async def factory() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        yield saver

    return await validate(RegisteredCheckpointer(name="heddle", factory=factory))  # type: ignore[arg-type]


def assert_complete(report: CapabilityReport) -> None:
    assert set(report.results) == {capability.value for capability in ALL_CAPABILITIES}
    for name, result in report.results.items():
        assert result.detected, f"{name} is not implemented"
        assert result.passed, f"{name}: {result.failures}"
        assert result.tests_passed > 0


async def test_all_eight_capabilities_hold_without_a_claim(world: CheckpointWorld) -> None:
    assert_complete(await report_on(world.saver))


class ClaimedSaver(PostgresSaver):
    """Makes every call under a claim of its thread, and lets reads see only what was flushed through the fence."""

    world: CheckpointWorld
    ledgers: dict[str, Ledger]

    async def _claimed(self, config: Any) -> Any:
        thread = config["configurable"]["thread_id"]
        if thread not in self.ledgers:
            claim = await self.world.claim()
            self.ledgers[thread] = Ledger(claim.run_id, thread, claim.token)
        return {**config, "configurable": {**config["configurable"], LEDGER_KEY: self.ledgers[thread]}}

    async def aput(self, config: Any, *arguments: Any) -> Any:
        return await super().aput(await self._claimed(config), *arguments)

    async def aput_writes(self, config: Any, *arguments: Any, **named: Any) -> None:
        await super().aput_writes(await self._claimed(config), *arguments, **named)
        await self.flush(config)

    async def aget_tuple(self, config: Any) -> Any:
        claimed = await self._claimed(config)
        in_memory = await super().aget_tuple(claimed)
        await self.flush(config)
        if in_memory and any(channel == "__interrupt__" for _, channel, _ in in_memory.pending_writes or ()):
            await self.end_all()  # the writes of a task that interrupted leave with the close
        unclaimed = {key: value for key, value in config["configurable"].items() if key != LEDGER_KEY}
        stored = await super().aget_tuple({"configurable": unclaimed})
        assert _plain(in_memory) == _plain(stored)
        return in_memory

    async def alist(self, config: Any, **named: Any) -> Any:
        async for found in super().alist(await self._claimed(config) if config else None, **named):
            yield found

    async def acopy_thread(self, source: str, target: str) -> None:
        await self.end_all()
        await super().acopy_thread(source, target)

    async def adelete_for_runs(self, run_ids: Any) -> None:
        await self.end_all()
        await super().adelete_for_runs(run_ids)

    async def adelete_thread(self, thread_id: str) -> None:
        await self.end_all()
        await super().adelete_thread(thread_id)

    async def aprune(self, *arguments: Any, **named: Any) -> None:
        await self.end_all()
        await super().aprune(*arguments, **named)

    async def flush(self, config: Any) -> None:
        ledger = self.ledgers.get(config["configurable"]["thread_id"])
        if ledger is not None:
            await self.world.flusher.flush_now(ledger)

    async def end_all(self) -> None:
        for ledger in self.ledgers.values():
            assert await self.world.close(ledger)
        self.ledgers.clear()


async def test_all_eight_capabilities_hold_through_claim_group_flush_and_fence(world: CheckpointWorld) -> None:
    saver = ClaimedSaver(world.pool, world.flusher)
    saver.world, saver.ledgers = world, {}
    assert_complete(await report_on(saver))


def _plain(found: Any) -> Any:
    """A tuple whose configurations do not carry the claim."""
    if found is None:
        return None
    for config in (found.config, found.parent_config or {"configurable": {}}):
        config["configurable"].pop(LEDGER_KEY, None)
    return found


async def test_a_capability_that_is_missing_is_noticed() -> None:
    with pytest.raises(AssertionError, match="not implemented"):
        assert_complete(await report_on(BaseCheckpointSaver()))
