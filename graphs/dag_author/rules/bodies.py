"""Bodies of tasks that are not SQL: shell commands and Python, or an honest refusal to pretend."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath

from graphs.dag_author.checks import FILL_IN
from graphs.dag_author.naming import slug

_HOOK = """\
try:
    from airflow.sdk import BaseHook
except ImportError:
    from airflow.hooks.base import BaseHook
"""
# Programs people name without quotes; what follows the name is their arguments.
PROGRAMS = frozenset(
    {
        "dbt",
        "make",
        "python",
        "python3",
        "bash",
        "sh",
        "spark-submit",
        "terraform",
        "kubectl",
        "docker",
        "rsync",
        "npm",
    }
    | {
        "curl",
        "aws",
        "gsutil",
        "gcloud",
        "psql",
        "pg_dump",
        "rclone",
        "java",
        "node",
        "pytest",
        "ansible-playbook",
    }
)
_RUNNERS = {".py": "python", ".sh": "bash", ".sql": "", ".jar": "java -jar", ".ipynb": "jupyter execute"}
_OBJECT_STORES = {"s3": "aws s3", "gs": "gsutil"}


def fill_in(what: str) -> str:
    """A body that fails loudly and says what its author has to write."""
    return f"raise NotImplementedError({FILL_IN + what!r})"


def move_rows(query: str, source: str, target: str, table: str) -> str:
    """Python that copies the rows of a query from one connection into a table of another."""
    return (
        f"{_HOOK}\n"
        f"rows = BaseHook.get_hook({source!r}).get_records({query!r})\n"
        f"BaseHook.get_hook({target!r}).insert_rows({table!r}, rows)\n"
        f"return {{'rows': len(rows)}}"
    )


def load_csv(path: str, target: str, table: str) -> str:
    """Python that reads a CSV file with a header and adds its rows to a table."""
    return (
        f"import csv\n\n{_HOOK}\n"
        f"with open({path!r}, newline='', encoding='utf-8') as source:\n"
        f"    reader = csv.reader(source{_delimiter(path)})\n"
        f"    columns = next(reader)\n"
        f"    rows = list(reader)\n"
        f"BaseHook.get_hook({target!r}).insert_rows({table!r}, rows, target_fields=columns)\n"
        f"return {{'rows': len(rows)}}"
    )


def _delimiter(path: str) -> str:
    return ", delimiter='\\t'" if path.endswith(".tsv") else ""


def run_script(path: str, arguments: str = "") -> str:
    runner = _RUNNERS.get(PurePosixPath(path).suffix, "")
    return " ".join(piece for piece in (runner, shell_path(path), arguments) if piece)


def download(url: str, path: str) -> str:
    scheme = url.partition("://")[0].lower()
    if scheme in _OBJECT_STORES:
        return f"{_OBJECT_STORES[scheme]} cp {shlex.quote(url)} {shlex.quote(path)}"
    return f"curl --fail --silent --show-error --location --output {shlex.quote(path)} {shlex.quote(url)}"


def is_remote(place: str) -> bool:
    return "://" in place


def downloaded_name(url: str) -> str:
    """Where a download of this address is kept, on the Airflow worker that runs the task."""
    return f"/tmp/{PurePosixPath(url.split('?')[0]).name or 'download'}"  # nosec B108


def file_command(verb: str, places: list[str]) -> str | None:
    """The shell command for work on files; None when the words do not name the files it needs."""
    quoted = [shlex.quote(place) if is_remote(place) else shell_path(place) for place in places]
    remote = next((place.partition("://")[0] for place in places if is_remote(place)), None)
    if remote is not None:
        tool = _OBJECT_STORES.get(remote)
        action = {
            "copy": "cp",
            "move": "mv",
            "transfer": "cp",
            "sync": "sync",
            "upload": "cp",
            "push": "cp",
        }.get(verb)
        if tool == "gsutil" and action == "sync":
            action = "rsync -r"
        if tool and action and len(places) == 2:
            return f"{tool} {action} {quoted[0]} {quoted[1]}"
        return f"{tool} rm {quoted[0]}" if tool and verb in ("delete", "remove") and len(places) == 1 else None
    if len(places) == 2:
        pairs = {
            "copy": "cp -- {} {}",
            "move": "mv -- {} {}",
            "transfer": "cp -- {} {}",
            "sync": "rsync -a -- {} {}",
        }
        pairs["mirror"] = "rsync -a --delete -- {} {}"
        return pairs[verb].format(*quoted) if verb in pairs else None
    single = {
        "compress": "gzip --force --keep -- {}",
        "gzip": "gzip --force --keep -- {}",
        "gunzip": "gunzip --force --keep -- {}",
        "unzip": "unzip -o {}",
        "delete": "rm -f -- {}",
        "remove": "rm -f -- {}",
    }
    if len(places) == 1 and verb == "archive":
        return f"tar --create --gzip --file {shell_path(places[0].rstrip('/*') + '.tar.gz')} -- {quoted[0]}"
    if len(places) == 1 and verb == "zip":
        return f"zip -r {shell_path(places[0].rstrip('/*') + '.zip')} {quoted[0]}"
    return single[verb].format(quoted[0]) if len(places) == 1 and verb in single else None


def shell_path(path: str) -> str:
    """A path as one shell word. Stars still match files; everything else is taken literally."""
    pieces = [shlex.quote(piece) if piece else "" for piece in path.split("*")]
    home = path.startswith("~/")
    if home:
        pieces[0] = "~/" + (shlex.quote(path.split("*")[0][2:]) if path.split("*")[0][2:] else "")
    return "*".join(pieces)


def table_of(path: str) -> str:
    """The table a file's rows go to when nobody says: named like the file, or the folder of `*.csv`."""
    place = PurePosixPath(path.split("?")[0])
    return slug(place.stem if re.search(r"[^\W_]", place.stem) else place.parent.name or "files")
