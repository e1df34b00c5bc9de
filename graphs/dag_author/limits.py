"""How large a request may be. The number of tasks is a setting; the rest protects the process."""

from __future__ import annotations

import os
from collections.abc import Mapping

from graphs.dag_author.problems import Code, Refused

MAX_TASKS = 1000
REQUEST_LENGTH = 20_000
NAME_LENGTH = 500
DESCRIPTION_LENGTH = 5_000
BODY_LENGTH = 200_000
NESTING = 20


def max_tasks(env: Mapping[str, str] = os.environ) -> int:
    """DAG_AUTHOR_MAX_TASKS, or 1000."""
    text = env.get("DAG_AUTHOR_MAX_TASKS", "").strip()
    if not text:
        return MAX_TASKS
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise Refused.because(
            Code.SPEC_INVALID,
            "DAG_AUTHOR_MAX_TASKS",
            "the setting must be a number from 1 to 100000",
            got=text,
        )
    return int(text)
