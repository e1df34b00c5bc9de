"""Names people type become ids that Airflow, Python and the file system all take."""

from __future__ import annotations

import difflib
import hashlib
import keyword
import re
import sys
import unicodedata
from collections.abc import Collection, Iterable

MAX_ID = 100
DAG_ID = re.compile(r"^[a-z_][a-z0-9_]{0,99}$")
TASK_ID = re.compile(r"^[A-Za-z0-9_]{1,100}$")

# The dags folder is on Airflow's import path, so a file named like a module hides that module.
_COMMON = """
airflow attr attrs azure boto3 botocore celery click common cron croniter dags dask dateutil dbt django docker
fastapi flask git google httpx jinja2 jwt kubernetes matplotlib mysql numpy opentelemetry packaging pandas
paramiko pendulum pip plugins polars psycopg psycopg2 pyarrow pydantic pymysql pyspark pytest pytz redis
requests rich scipy setuptools six sklearn snowflake sqlalchemy tenacity tensorflow torch typing_extensions
urllib3 werkzeug yaml
"""
_COMMON_MODULES = frozenset(_COMMON.split())


def slug(name: str) -> str:
    """Lower-case ASCII words joined by underscores; a hash of the name when nothing of it is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if not words:
        return "x" + hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return words[:MAX_ID].rstrip("_")


def dag_id_for(name: str) -> str:
    """The id a DAG of this name gets when nobody asked for a particular one."""
    found = slug(name)
    if found[0].isdigit():
        found = "dag_" + found
    if shadows(found):
        found += "_dag"
    return found[:MAX_ID].rstrip("_")


def shadows(dag_id: str) -> bool:
    """Whether `dags/<id>.py` would hide a module that code may import, or cannot itself be imported."""
    return (
        dag_id in sys.stdlib_module_names
        or dag_id in _COMMON_MODULES
        or keyword.iskeyword(dag_id)
        or dag_id.startswith("__")
    )


def numbered(base: str, taken: Collection[str]) -> str:
    """The base itself, or with the first of _2, _3, … that is free, never longer than an id may be."""
    if base not in taken:
        return base
    number = 2
    while True:
        suffix = f"_{number}"
        candidate = base[: MAX_ID - len(suffix)].rstrip("_") + suffix
        if candidate not in taken:
            return candidate
        number += 1


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like this one, when one is like it at all."""
    known = list(known)[:2000]
    found = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.6)
    return found[0] if found else None
