"""The runs that this process executes, as use cases see them."""

from __future__ import annotations

from typing import Protocol

from heddle_core.domain.ids import RunId
from heddle_core.domain.run import CancelAction, Run
from heddle_core.ports.run_queue import Claim


class LocalRuns(Protocol):
    def reserve(self) -> bool:
        """Take a slot for a run about to be opened; False when there is none, or this process is stopping."""
        ...

    def release(self) -> None:
        """Give a reserved slot back: the run was not opened."""
        ...

    def start(self, claim: Claim, *, since: float) -> None:
        """Execute a run that was opened under a reserved slot. Its log is open when this returns.

        `since`: the clock before the statement that took the claim; its lease is counted from there.
        """
        ...

    def wake(self) -> None:
        """There may be a pending run: look soon."""
        ...

    def has(self, run_id: RunId) -> bool:
        """Does it run here?"""
        ...

    def recall(self, run_id: RunId) -> Run | None:
        """A run that runs here, or ran here and left no row while its events can still be replayed."""
        ...

    def cancel(self, run_id: RunId, action: CancelAction) -> bool:
        """Stop a run if it runs here; False when it does not."""
        ...
