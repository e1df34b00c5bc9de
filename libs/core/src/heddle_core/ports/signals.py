"""Hints between processes. A lost one costs time, never truth."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from heddle_core.domain.ids import RunId


class SignalKind(StrEnum):
    RUN_READY = "run_ready"  # a pending run is due
    CANCEL = "cancel"  # a running run was asked to stop
    RUN_ENDED = "run_ended"  # a run that somebody watches from another process is over
    WAKE = "wake"  # signals may have been lost (the connection was renewed): look again


@dataclass(frozen=True, slots=True)
class Signal:
    kind: SignalKind
    run_id: RunId | None = None


class Signals(Protocol):
    def listen(self) -> AsyncIterator[Signal]:
        """Every signal from now on, one listener per call, until closed. Yields `wake` after a reconnect."""
        ...
