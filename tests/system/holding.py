"""Holds a server's statement inside the database, and lets it go or breaks it off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from heddle_server.dsn import Dsn
from tests.system.waiting import until

_WAIT = """
CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
CREATE TRIGGER hold {when} EXECUTE FUNCTION public.hold();
"""
WHERE = {
    "open": ("heddle.run", "BEFORE INSERT ON heddle.run FOR EACH ROW"),
    "flush": ("checkpoints", "BEFORE INSERT ON checkpoints FOR EACH ROW"),
    "close": ("heddle.run", "AFTER UPDATE ON heddle.run FOR EACH ROW WHEN (NEW.ended_at IS NOT NULL)"),
}


class Held:
    """The statements that reach the place wait there until the block is left."""

    def __init__(self, holder: psycopg.Connection) -> None:
        self._holder = holder

    def _count(self) -> int:
        row = self._holder.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
        ).fetchone()
        return int(row[0]) if row else 0

    async def reached(self) -> None:
        async def seen() -> bool:
            return await asyncio.to_thread(self._count) > 0

        await until(seen)

    def break_off(self) -> None:
        """End the connections that wait: what they were about to write is undone."""
        self._holder.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def let_go(self) -> None:
        self._holder.execute("SELECT pg_advisory_unlock(42)")


@contextmanager
def held(database: Dsn, place: str) -> Iterator[Held]:
    table, when = WHERE[place]
    with psycopg.connect(database.libpq_url(), autocommit=True) as holder:
        holder.execute(_WAIT.format(when=when).encode())
        holder.execute("SELECT pg_advisory_lock(42)")
        try:
            yield Held(holder)
        finally:
            holder.execute("SELECT pg_advisory_unlock_all()")
            holder.execute(f"DROP TRIGGER hold ON {table}".encode())
            holder.execute("DROP FUNCTION public.hold()")
