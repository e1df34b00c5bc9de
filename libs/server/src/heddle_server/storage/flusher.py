"""Write-behind: the rows of all runs of this process, in as few statements as possible.

One flusher per process takes the rows of every ledger that has any into one fenced statement. It writes when enough
has gathered (rows, bytes, or time since the first unflushed step), or when somebody must not wait, and after each
write it waits for those bounds again. One statement is under way at a time, so whatever gathers meanwhile shares
the next one.

What can happen to a statement:
- a run's claim is gone: its rows were not written, it is told at once, the others are stored;
- the connection, the disk or the server fails: the rows go back to their ledgers, and are tried again with growing
  pauses; the runs do not notice, unless so much gathers that memory is in danger;
- the database refuses a row: each run is written on its own, and only the guilty one fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

import asyncpg
import structlog

from heddle_core.domain.errors import LeaseLost, Unavailable
from heddle_core.domain.ids import RunId
from heddle_server.storage.ledger import Ledger
from heddle_server.storage.rows import FLUSH_ROWS, Rows

log = structlog.get_logger(__name__)

T = TypeVar("T")
_Batch = list[tuple[Ledger, Rows]]

ROWS: Final = 128
SIZE: Final = 256 * 1024
DELAY: Final = 0.020
STATEMENT_TIMEOUT: Final = 30.0
_LONGEST_PAUSE: Final = 2.0

# SQLSTATE classes that say nothing about the rows: connection, transaction rollback (deadlock), resources (disk
# full), object in use, operator intervention (shutdown, cancelled statement), system error.
_PASSING = ("08", "40", "53", "55", "57", "58")

DATABASE_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What a statement may raise. A timeout is an `OSError`."""


def is_transient(error: BaseException) -> bool:
    """May the same statement succeed later?"""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_PASSING)
    return isinstance(error, (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError))


class Flusher:
    """Gathers rows and writes them; an async context manager that lives on the loop of its pool.

    `on_lost` is called on that loop, once for each run that must stop: look at its ledger's `lost` and `error`.
    `room` is awaited by whoever drives a graph: it waits while more than `backlog` bytes are unwritten. When the
    database has stalled for `patience` seconds, a run that pushes the total over four times that is failed, so that
    the memory lasts.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        on_lost: Callable[[RunId], None] = lambda run_id: None,
        rows: int = ROWS,
        size: int = SIZE,
        delay: float = DELAY,
        backlog: int = 16 * 1024 * 1024,
        patience: float = 5.0,
    ) -> None:
        self._pool = pool
        self._on_lost = on_lost
        self._row_bound = rows
        self._size_bound = size
        self._delay = delay
        self._backlog = backlog
        self._patience = patience
        self._busy_since: float | None = None  # when the rows under way were first sent
        self._dirty: dict[Ledger, None] = {}
        self._gathered_rows = 0
        self._gathered_size = 0
        self._waiters: list[tuple[Ledger, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self._home = threading.get_ident()
        self._due = asyncio.Event()
        self._roomy = asyncio.Event()
        self._stop = asyncio.Event()
        self._roomy.set()
        self._serving = self.loop.create_task(self._serve(), name="flusher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Try once more to write what is left, then stop."""
        self._stop.set()
        if self._serving is not None and not self._serving.done():
            self._due.set()
            await asyncio.shield(self._serving)
        if self._timer is not None:
            self._timer.cancel()

    @property
    def is_home(self) -> bool:
        """Is this the thread of the flusher's loop?"""
        return threading.get_ident() == self._home

    async def at_home(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the flusher's loop, where its pool lives, and wait for it from any loop."""
        if self.is_home:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def mark(self, ledger: Ledger) -> None:
        """The ledger has rows to be written in time. From any thread; never waits."""
        if self.is_home:
            self._mark(ledger)
        elif not ledger.rung:
            ledger.rung = True
            self.loop.call_soon_threadsafe(self._mark, ledger)

    def _mark(self, ledger: Ledger) -> None:
        ledger.rung = False
        counted_rows, counted_size = ledger.counted
        rows, size = ledger.pending_rows, ledger.pending_size
        ledger.counted = rows, size
        self._dirty[ledger] = None
        self._gathered_rows += max(0, rows - counted_rows)
        self._gathered_size += max(0, size - counted_size)
        if self._is_enough and not self._due.is_set():
            self._count()
            if self._is_enough:
                self._due.set()
        if self._gathered_size >= self._backlog:
            self._resist(ledger)
        if self._timer is None and ledger.due(self._delay) is not None:
            self._timer = self.loop.call_later(self._delay, self._look)

    @property
    def _is_enough(self) -> bool:
        return self._gathered_rows >= self._row_bound or self._gathered_size >= self._size_bound

    def _count(self) -> None:
        """Count again, without the rows that left with the close of their run."""
        self._gathered_rows = self._gathered_size = 0
        for ledger in list(self._dirty):
            rows, size = ledger.counted = ledger.pending_rows, ledger.pending_size
            if not rows:
                del self._dirty[ledger]
            self._gathered_rows += rows
            self._gathered_size += size

    def _resist(self, ledger: Ledger) -> None:
        self._roomy.clear()
        stalled = self._busy_since is not None and time.monotonic() - self._busy_since >= self._patience
        if stalled and self._gathered_size >= 4 * self._backlog:
            self._fail(ledger, Unavailable("the database does not take checkpoints as fast as runs make them"))

    def _look(self) -> None:
        """Has the oldest unflushed step waited long enough?"""
        self._timer = None
        moments = [moment for ledger in self._dirty if (moment := ledger.due(self._delay)) is not None]
        if not moments:
            return
        left = min(moments) - time.monotonic()
        if left <= 0.001:
            self._due.set()
        else:
            self._timer = self.loop.call_later(left, self._look)

    async def room(self) -> None:
        """Wait while too much is unwritten. Returns at once in ordinary times. From any loop."""
        if not self._roomy.is_set():
            await self.at_home(self._until_roomy())

    async def _until_roomy(self) -> None:
        await self._roomy.wait()

    async def flush_now(self, ledger: Ledger) -> None:
        """Return when everything that could be written of this ledger is committed, together with what others have.

        Raises `LeaseLost` when the claim is gone, and `Unavailable` when the rows were refused. From any loop.
        """
        if ledger.pending_rows or ledger.is_in_flight:
            await self.at_home(self._flushed(ledger))

    async def _flushed(self, ledger: Ledger) -> None:
        if self._stop.is_set() or self._serving is None or self._serving.done():
            raise Unavailable("the server is stopping: checkpoints are no longer written")
        done: asyncio.Future[None] = self.loop.create_future()
        self._waiters.append((ledger, done))
        self._dirty[ledger] = None
        self._due.set()
        await done

    async def _serve(self) -> None:
        failures = 0
        try:
            while not self._stop.is_set() or self._dirty:
                await self._due.wait()
                await asyncio.sleep(0)  # what is ready in this turn of the loop shares the statement
                self._due.clear()
                error = await self._flush()
                failures = 0 if error is None else failures + 1
                if error is not None:
                    log.warning("flush_failed", error=str(error), kind=type(error).__name__, failures=failures)
                    if self._stop.is_set():
                        return
                    await self._pause(min(_LONGEST_PAUSE, 0.05 * 2**failures))
                    self._due.set()
        finally:
            for _, done in self._waiters:
                if not done.done():
                    done.set_exception(Unavailable("the server stopped before the checkpoints were written"))

    async def _flush(self) -> BaseException | None:
        """Write what has gathered, answer those who waited for it. Returns the error after which to try again."""
        waiters, self._waiters = self._waiters, []
        batch = [(ledger, rows) for ledger in self._dirty if (rows := ledger.take()) is not None]
        self._dirty.clear()
        self._gathered_rows = self._gathered_size = 0
        for ledger, _ in batch:
            ledger.counted = 0, 0
        self._busy_since = self._busy_since or time.monotonic()
        error = await self._write(batch) if batch else None
        if error is not None:
            self._waiters[:0] = waiters
            return error
        self._busy_since = None
        self._roomy.set()
        for ledger, done in waiters:
            _answer(done, ledger)
        return None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _write(self, batch: _Batch) -> BaseException | None:
        """Write the batch. Returns the error after which its rows are back in their ledgers, to be tried again."""
        if len({ledger.run_id for ledger, _ in batch}) < len(batch):
            # A run that this process lost and claimed again: the fence goes by run, so each claim passes it alone.
            return await self._write_apart(batch)
        try:
            owned = await self._send(batch)
        except DATABASE_ERRORS as error:
            if is_transient(error):
                for ledger, _ in batch:
                    ledger.restore()
                    self._dirty[ledger] = None
                return error
            if len(batch) == 1:
                self._fail(batch[0][0], error)
                batch[0][0].restore()
                return None
            return await self._write_apart(batch)
        for ledger, _ in batch:
            if ledger.run_id in owned:
                ledger.landed()
            else:
                ledger.lose()
                ledger.restore()
                self._tell(ledger)
        return None

    async def _write_apart(self, batch: _Batch) -> BaseException | None:
        passing: BaseException | None = None
        for entry in batch:
            passing = await self._write([entry]) or passing
        return passing

    async def _send(self, batch: _Batch) -> set[UUID]:
        rows = Rows.merge(rows for _, rows in batch)
        owned = await self._pool.fetchval(
            FLUSH_ROWS,
            [ledger.run_id for ledger, _ in batch],
            [ledger.token for ledger, _ in batch],
            *rows.parameters(),
            timeout=STATEMENT_TIMEOUT,
        )
        return set(owned)

    def _fail(self, ledger: Ledger, error: BaseException) -> None:
        log.error("checkpoints_refused", run_id=str(ledger.run_id), thread_id=ledger.thread, error=str(error))
        ledger.fail(error)
        self._tell(ledger)

    def _tell(self, ledger: Ledger) -> None:
        self._on_lost(RunId(ledger.run_id))


def _answer(done: asyncio.Future[None], ledger: Ledger) -> None:
    if done.done():
        return
    if ledger.lost:
        done.set_exception(LeaseLost())
    elif ledger.error is not None:
        done.set_exception(Unavailable(f"the run's checkpoints could not be stored: {ledger.error}"))
    else:
        done.set_result(None)
