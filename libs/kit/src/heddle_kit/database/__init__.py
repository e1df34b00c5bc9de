"""The graph's own tables: a small pool of connections to the database the server runs on."""

from heddle_kit.database.port import DatabaseFault, DatabaseMissing, database_url

__all__ = ["DatabaseFault", "DatabaseMissing", "database_url"]
