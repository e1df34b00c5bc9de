"""The embedded PostgreSQL: a real server, started from installed programs, shared by all who use its folder."""

from heddle_cli.postgres.launcher import EmbeddedPostgres, Running

__all__ = ["EmbeddedPostgres", "Running"]
