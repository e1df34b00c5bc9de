"""What a new run does to the runs already in flight on its thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from heddle_core.domain.errors import ThreadBusy
from heddle_core.domain.run import CancelAction, MultitaskStrategy, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`refusal` is raised and nothing is written; otherwise the run is inserted and `cancel` is carried out."""

    refusal: ThreadBusy | None = None
    cancel: tuple[Run, ...] = ()
    action: CancelAction = CancelAction.INTERRUPT


def decide(strategy: MultitaskStrategy, inflight: Sequence[Run]) -> Decision:
    if not inflight:
        return Decision()
    match strategy:
        case MultitaskStrategy.REJECT:
            return Decision(refusal=ThreadBusy(inflight[0].thread_id))
        case MultitaskStrategy.ENQUEUE:
            return Decision()
        case MultitaskStrategy.INTERRUPT:
            return Decision(cancel=tuple(inflight), action=CancelAction.INTERRUPT)
        case MultitaskStrategy.ROLLBACK:
            return Decision(cancel=tuple(inflight), action=CancelAction.ROLLBACK)
    assert_never(strategy)
