"""The garbage collector of a server process."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from heddle_cli import collector


class Ring:
    """Garbage that only the collector can find."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_what_the_start_made_is_spared_and_what_comes_later_is_not() -> None:
    made = Ring()
    collector.look_rarely()
    collector.spare_what_stays()
    later = Ring()
    early, late = weakref.ref(made), weakref.ref(later)
    del made, later
    gc.collect()

    assert early() is not None
    assert late() is None


def test_the_garbage_of_the_start_itself_is_gone_before() -> None:
    ring = Ring()
    found = weakref.ref(ring)
    del ring
    collector.spare_what_stays()

    assert found() is None
    assert gc.isenabled()
