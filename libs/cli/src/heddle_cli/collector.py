"""How the garbage collector treats a server process: what is made once is not looked through again and again."""

from __future__ import annotations

import gc

_YOUNG_OBJECTS = 10_000  # between two looks; one run makes thousands that are gone at its end


def look_rarely() -> None:
    """Call it before the imports: they make little garbage, and looking for it took a tenth of the start."""
    gc.set_threshold(_YOUNG_OBJECTS)


def spare_what_stays() -> None:
    """Call it when the server is ready: walking what the start has made took half of a busy server's time."""
    gc.collect()
    gc.freeze()
