"""The database functions, one file each. Migrations install them; a change of one needs a migration that installs."""

from __future__ import annotations

from importlib.resources import files

from sqlalchemy import Connection

__all__ = ["drop", "install", "sources"]


def sources() -> dict[str, str]:
    """The `CREATE OR REPLACE FUNCTION` statements by name."""
    folder = files(__package__)
    return {
        file.name.removesuffix(".sql"): file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
    }


def install(connection: Connection) -> None:
    """Put the functions of this version in place of any other, within the caller's transaction."""
    drop(connection)
    # They call each other and are created by name, so none of them can be checked before all are there.
    connection.exec_driver_sql("SET LOCAL check_function_bodies = off")
    for source in sources().values():
        connection.exec_driver_sql(source)


def drop(connection: Connection) -> None:
    found = connection.exec_driver_sql("""
        SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'heddle'::regnamespace
    """)
    for signature in found.scalars().all():
        connection.exec_driver_sql(f"DROP FUNCTION {signature} CASCADE")
