"""The words the rule planner knows: what verbs do, which nouns are systems, and how words are bent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from graphs.dag_author.naming import slug
from graphs.dag_author.rules.tokens import Kind, Token


class Action(StrEnum):
    EXTRACT = "extract"
    AGGREGATE = "aggregate"
    JOIN = "join"
    FILTER = "filter"
    DEDUPLICATE = "deduplicate"
    LOAD = "load"
    TRANSFER = "transfer"
    NOTIFY = "notify"
    RUN = "run"
    TRIGGER = "trigger"
    WAIT = "wait"
    FILE = "file"
    OTHER = "other"


_VERBS = {
    Action.EXTRACT: """
extract pull fetch get read ingest import download collect query select retrieve grab scrape
""",
    Action.AGGREGATE: "aggregate sum count average total calculate compute summarize summarise group rank",
    Action.JOIN: "join merge combine",
    Action.FILTER: "filter",
    Action.DEDUPLICATE: "deduplicate dedupe dedup",
    Action.LOAD: "load write store save insert upsert push upload export publish persist put",
    Action.TRANSFER: "copy sync replicate move transfer migrate mirror synchronize synchronise",
    Action.NOTIFY: "email mail send notify alert post slack message ping text page tell",
    Action.RUN: "run execute call invoke launch start",
    Action.TRIGGER: "trigger",
    Action.WAIT: "wait",
    Action.FILE: "compress gzip zip unzip gunzip delete remove archive",
    Action.OTHER: """
clean transform enrich normalize normalise validate check test verify process generate build create train
deploy score predict refresh update convert parse back backup analyze analyse produce prepare evaluate
report rebuild reindex vacuum anonymize anonymise mask classify crawl compare format render plot make print
log poll monitor restart rotate purge clear geocode translate tag detect find identify apply partition split
sort index cache warm snapshot reconcile forecast segment retrain tokenize embed label
""",
}
VERBS: dict[str, Action] = {verb: action for action, verbs in _VERBS.items() for verb in verbs.split()}

_ALSO_NOUNS = """
report email mail load count query check test backup copy message alert post process update archive export
import dump score model rank filter group run sum total average log page text tag index cache snapshot
forecast segment label plot format sort split mask slack
"""
ALSO_NOUNS = frozenset(_ALSO_NOUNS.split())
_NOUN_FOLLOWERS = "address addresses list lists event events open opens click clicks campaign campaigns file files"
NOUN_FOLLOWERS = frozenset(_NOUN_FOLLOWERS.split())
_DETERMINER_TEXT = "a an the all its their our my your each every some any this these that those it them both"
DETERMINERS = frozenset(_DETERMINER_TEXT.split())
# They say which rows, not which table: the schedule's period says that.
FRESHNESS = frozenset(
    {"new", "latest", "recent", "fresh", "today's", "yesterday's", "day's", "daily", "raw", "current"}
)
_PRONOUN_TEXT = "it them both data result results everything that this these all"
PRONOUNS = frozenset(_PRONOUN_TEXT.split())


def verb(word: str) -> str | None:
    """The base form of a known verb, however it is bent: extracts, extracting, copies, running."""
    word = word.lower()
    for base in _bases(word):
        if base in VERBS:
            return base
    return None


def _bases(word: str) -> list[str]:
    found = [word]
    if word.endswith("ies"):
        found.append(word[:-3] + "y")
    if word.endswith("es"):
        found.append(word[:-2])
    if word.endswith("s"):
        found.append(word[:-1])
    if word.endswith("ing") and len(word) > 5:
        stem = word[:-3]
        found += [stem, stem + "e", stem[:-1] if stem[-1:] == stem[-2:-1] else stem]
    return found


def singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


class Store(StrEnum):
    DATABASE = "database"
    FILES = "files"  # object stores and file servers
    SERVICE = "service"  # anything behind an API


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A place data comes from or goes to, and the Airflow connection that would lead there."""

    name: str
    store: Store
    conn_id: str


_DATABASES = {
    "postgres": "postgres", "postgresql": "postgres", "pg": "postgres", "mysql": "mysql",
    "mariadb": "mariadb",
    "mssql": "mssql", "sqlserver": "mssql", "oracle": "oracle", "sqlite": "sqlite", "snowflake": "snowflake",
    "bigquery": "bigquery", "redshift": "redshift", "clickhouse": "clickhouse", "duckdb": "duckdb",
    "trino": "trino", "presto": "presto", "databricks": "databricks", "vertica": "vertica",
    "teradata": "teradata", "warehouse": "warehouse", "dwh": "warehouse", "database": "database",
    "db": "database", "cockroachdb": "cockroachdb", "timescale": "timescale", "timescaledb": "timescale",
}  # fmt: skip
_GENERIC = ("database", "warehouse")
_FILE_STORES = frozenset({"s3", "gcs", "minio", "sftp", "ftp", "hdfs", "bucket"})
_SERVICE_TEXT = """
api kafka salesforce stripe hubspot shopify mongodb mongo elasticsearch redis zendesk jira github sheets slack
sharepoint airtable notion endpoint webhook
"""
_SERVICES = frozenset(_SERVICE_TEXT.split())


def system(tokens: Sequence[Token]) -> System | None:
    """The system a phrase names: `the postgres database`, `our analytics warehouse`, `the stripe api`."""
    words = [token.plain for token in tokens if token.kind is Kind.WORD and token.plain not in DETERMINERS]
    words = [word for word in words if word not in ("data", "table", "tables", "connection", "server", "instance")]
    text = " ".join(words).replace("sql server", "sqlserver").replace("big query", "bigquery").split()
    named = [word for word in text if word in _DATABASES]
    if named:
        exact = next((word for word in named if _DATABASES[word] not in _GENERIC), None)
        base = _DATABASES[exact or named[0]]
        before = text[: text.index(exact or named[0])]
        words_of_name = [*before, base][-3:]
        return System(name=" ".join(text), store=Store.DATABASE, conn_id=slug(" ".join(words_of_name)))
    for store, known in ((Store.FILES, _FILE_STORES), (Store.SERVICE, _SERVICES)):
        if any(word in known for word in text):
            return System(name=" ".join(text), store=store, conn_id=slug(" ".join(text)))
    return None


_NOT_OBJECTS = ("from", "per", "by", "and", "in", "into", ",", ".", ";", "with", "is", "are")


def is_verb(tokens: Sequence[Token], place: int) -> bool:
    """Whether a word at the start of a clause says what to do, and is not the name of a thing."""
    if place >= len(tokens) or tokens[place].kind is not Kind.WORD:
        return False
    token = tokens[place]
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    base = verb(token.plain)
    if base is None:
        unknown = token.plain not in DETERMINERS and token.plain.endswith(("s", "ze", "se", "fy", "te"))
        return unknown and after is not None and after.plain in DETERMINERS
    if base in ALSO_NOUNS and not token.plain.endswith("ing"):
        if after is None:
            return base in ("report", "test", "backup") and token.plain == base
        if base in ("email", "mail", "slack", "text", "page") and after.plain in NOUN_FOLLOWERS:
            return False
        return after.plain not in (
            "from",
            "per",
            "by",
            "and",
            "in",
            "into",
            ",",
            ".",
            ";",
            "with",
            "is",
            "are",
        )
    return True
