"""Where a graph's tables are, and the faults of reaching them."""

from __future__ import annotations

import os
from collections.abc import Mapping


class DatabaseFault(Exception):
    """The database cannot be reached or did not answer in time."""


class DatabaseMissing(DatabaseFault):
    """DATABASE_URL is not set: start the graph through `heddle dev` or `heddle serve`, which set it."""


def database_url(env: Mapping[str, str] = os.environ) -> str:
    """The address of the database, in the form asyncpg takes; DatabaseMissing when nobody set one."""
    url = env.get("DATABASE_URL", "").strip()
    if not url:
        raise DatabaseMissing(DatabaseMissing.__doc__)
    return url
