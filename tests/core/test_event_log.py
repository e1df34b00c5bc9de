"""The event log in memory, read as use cases read it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from heddle_core.domain.errors import Unavailable
from heddle_core.domain.events import BEGINNING, End, Event, EventId, StoredEvent
from heddle_core.domain.ids import RunId, new_run_id
from heddle_core.domain.json import Encoded
from heddle_core.memory.event_log import Bounds, MemoryEventLog

KEEP = timedelta(seconds=60)
RESULT = Encoded(b'{"done":true}')


@pytest.fixture
def run() -> RunId:
    return new_run_id()


def said(*texts: str) -> list[Event]:
    return [Event("custom", Encoded(text.encode())) for text in texts]


def texts(batch: object) -> list[str]:
    assert isinstance(batch, (list, tuple))
    return [item.event.data.decode() for item in batch if isinstance(item, StoredEvent)]


def is_over(batch: object) -> bool:
    assert isinstance(batch, (list, tuple))
    return bool(batch) and isinstance(batch[-1], End)


async def test_every_reader_sees_every_event_in_order(run: RunId) -> None:
    log = MemoryEventLog()
    readers = [log.read(run, BEGINNING) for _ in range(3)]
    writer = log.begin(run, 1, retain=False)
    writer.append(said("1"))
    first = [texts(reader.ready()) for reader in readers]
    writer.append(said("2", "3"))
    log.end(run, 1, RESULT, keep=KEEP)
    rest = [reader.ready() for reader in readers]

    assert first == [["1"]] * 3
    assert [texts(batch) for batch in rest] == [["2", "3"]] * 3
    assert all(is_over(batch) for batch in rest)


async def test_a_reader_attached_before_the_log_opens_misses_nothing(run: RunId) -> None:
    log = MemoryEventLog()
    reader = log.read(run, BEGINNING)
    assert not log.knows(run)
    writer = log.begin(run, 1, retain=False)
    assert writer.is_watched
    writer.append(said("first"))
    assert texts(reader.ready()) == ["first"]


async def test_a_live_reader_gets_the_opening_and_what_comes_after_it(run: RunId) -> None:
    log = MemoryEventLog()
    writer = log.begin(run, 1, retain=True)
    writer.append(said("old"))
    reader = log.read(run, None)
    writer.append(said("new"))
    assert texts(reader.ready()) == ["old", "new"]


async def test_a_late_reader_hears_the_opening_and_may_resume_from_where_it_joined(run: RunId) -> None:
    log = MemoryEventLog()
    writer = log.begin(run, 1, retain=True)
    writer.append(said("metadata", "missed"))
    (greeting,) = log.read(run, None).ready()
    assert isinstance(greeting, StoredEvent)
    assert greeting.event.data == b"metadata"
    writer.append(said("next"))
    assert texts(log.read(run, greeting.id).ready()) == ["next"]


async def test_a_log_nobody_can_read_keeps_nothing(run: RunId) -> None:
    log = MemoryEventLog()
    writer = log.begin(run, 1, retain=False)
    assert not writer.is_watched
    writer.append(said("metadata"))
    writer.append(said("unheard"))
    assert texts(log.read(run, BEGINNING).ready()) == ["metadata"]


async def test_a_reader_of_the_end_alone_does_not_count_as_watching(run: RunId) -> None:
    log = MemoryEventLog()
    reader = log.read(run, BEGINNING, only_end=True)
    writer = log.begin(run, 1, retain=False)
    assert not writer.is_watched
    assert reader.ready() == ()
    log.end(run, 1, RESULT, keep=KEEP)
    assert reader.ready() == [End(RESULT)]


@pytest.mark.parametrize(
    ("after", "replayed"),
    [(BEGINNING, ["a", "b", "c"]), (EventId(1, 1), ["b", "c"]), (EventId(1, 3), []), (EventId(7, 7), [])],
)
async def test_a_finished_retained_log_replays_from_any_place_and_ends(
    run: RunId, after: EventId, replayed: list[str]
) -> None:
    log = MemoryEventLog()
    log.begin(run, 1, retain=True).append(said("a", "b", "c"))
    log.end(run, 1, RESULT, keep=KEEP)
    batch = log.read(run, after).ready()
    assert texts(batch) == replayed
    assert batch[-1] == End(RESULT)


async def test_a_second_attempt_continues_a_retained_log_with_higher_ids(run: RunId) -> None:
    log = MemoryEventLog()
    log.begin(run, 1, retain=True).append(said("one"))
    log.end(run, 1, None, keep=KEEP)
    log.begin(run, 2, retain=True).append(said("two"))
    batch = log.read(run, EventId(1, 1)).ready()
    assert [item.id for item in batch if isinstance(item, StoredEvent)] == [EventId(2, 1)]


async def test_a_log_that_moved_away_tells_its_readers_and_opens_anew(run: RunId) -> None:
    log = MemoryEventLog()
    reader = log.read(run, BEGINNING)
    log.begin(run, 1, retain=False)
    log.end(run, 1, None, keep=KEEP)
    assert reader.ready() == [End(None)]
    again = log.read(run, BEGINNING)
    assert again.ready() == []
    log.begin(run, 2, retain=False).append(said("back"))
    assert texts(again.ready()) == ["back"]


async def test_a_reader_that_falls_behind_the_bound_is_told_instead_of_handed_a_gap(run: RunId) -> None:
    log = MemoryEventLog(Bounds(events=10))
    slow = log.read(run, BEGINNING)
    writer = log.begin(run, 1, retain=False)
    for number in range(11):
        writer.append(said(str(number)))
    with pytest.raises(Unavailable):
        slow.ready()


async def test_a_reader_that_keeps_up_passes_the_bound_unharmed(run: RunId) -> None:
    log = MemoryEventLog(Bounds(events=10))
    reader = log.read(run, BEGINNING)
    writer = log.begin(run, 1, retain=False)
    heard: list[str] = []
    for number in range(100):
        writer.append(said(str(number)))
        heard += texts(reader.ready())
    assert heard == [str(number) for number in range(100)]


async def test_the_log_of_a_run_that_is_over_is_forgotten_when_read_out(run: RunId) -> None:
    log = MemoryEventLog()
    reader = log.read(run, BEGINNING)
    log.begin(run, 1, retain=False)
    log.end(run, 1, RESULT, keep=KEEP)
    assert log.knows(run)
    reader.close()
    reader.close()
    assert not log.knows(run)


async def test_who_wants_everything_of_an_unwatched_log_hears_at_least_its_opening(run: RunId) -> None:
    log = MemoryEventLog()
    writer = log.begin(run, 1, retain=False)
    writer.append(said("metadata"))
    writer.append(said("unheard"))
    reader = log.read(run, BEGINNING)
    writer.append(said("heard"))
    assert texts(reader.ready()) == ["metadata", "heard"]


async def test_what_an_attempt_said_is_kept_for_who_reads_while_the_run_moves(run: RunId) -> None:
    log = MemoryEventLog()
    log.begin(run, 1, retain=True).append(said("one"))
    log.end(run, 1, None, keep=KEEP)
    reader = log.read(run, BEGINNING)
    assert texts(reader.ready()) == ["one"]
    log.begin(run, 2, retain=True).append(said("two"))
    assert texts(reader.ready()) == ["two"]


async def test_an_attempt_that_was_followed_by_another_says_and_ends_nothing(run: RunId) -> None:
    log = MemoryEventLog()
    reader = log.read(run, BEGINNING)
    old = log.begin(run, 1, retain=False)
    log.begin(run, 2, retain=False).append(said("new"))
    old.append(said("old"))
    log.end(run, 1, None, keep=KEEP)
    assert texts(reader.ready()) == ["new"]
    log.end(run, 2, RESULT, keep=KEEP)
    assert reader.ready() == [End(RESULT)]


async def test_a_waiting_reader_wakes_for_an_event_a_poke_and_the_clock(run: RunId) -> None:
    log = MemoryEventLog()
    reader = log.read(run, BEGINNING)
    assert not await reader.wait(0.01)
    log.poke(run)
    assert await reader.wait(5)
    reader.ready()
    log.begin(run, 1, retain=False).append(said("x"))
    assert await reader.wait(5)
    assert texts(reader.ready()) == ["x"]


@pytest.mark.parametrize("text", ["", "-", "-1", "1", "a-b", "1-2-3", "1784-0x", "9" * 50 + "-1"])
def test_an_id_that_is_not_ours_is_no_position(text: str) -> None:
    assert EventId.parse(text) is None


def test_an_id_survives_its_text() -> None:
    assert EventId.parse(str(EventId(3, 41))) == EventId(3, 41)
