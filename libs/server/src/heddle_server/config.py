"""The project file, `agent.json` or `langgraph.json`: read, checked, and turned into values.

What this version does not do is refused by name, never ignored: a project that counts on its auth handler
must not be served without it. Keys nobody knows are reported in `ProjectConfig.warnings`. Only the standard
library is imported here, because the `heddle` command reads this file before anything else is loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

__all__ = [
    "ConfigError",
    "Cors",
    "GraphEntry",
    "HeaderRule",
    "HttpOptions",
    "ProjectConfig",
    "StartError",
    "discover",
]

FILE_NAMES = ("agent.json", "langgraph.json")
TRACING_HEADERS = ("langsmith-trace", "baggage")
SECRET_HEADERS = frozenset({"authorization", "cookie", "x-api-key", "x-tenant-id", "x-service-key"})

BUILD_ONLY = frozenset(
    {
        "$schema",
        "python_version",
        "node_version",
        "image_distro",
        "base_image",
        "api_version",
        "dockerfile_lines",
        "pip_config_file",
        "pip_installer",
        "keep_pkg_tools",
        "source",
    }
)
NOT_YET = {
    "auth": "auth handlers",
    "encryption": "custom encryption",
    "webhooks": "webhooks",
    "ui": "generative UI",
    "ui_config": "generative UI",
    "store.index": "vector search",
    "store.ttl": "expiry of store items",
    "store.path": "custom stores",
    "checkpointer.ttl": "expiry of threads",
    "checkpointer.serde": "settings of the checkpoint serializer",
    "checkpointer.path": "custom checkpointers",
    "http.app": "custom apps",
    "http.middleware_order": "custom apps",
    "http.enable_custom_route_auth": "custom apps",
    "http.mount_prefix": "serving under a prefix",
    "http.logging_headers": "request headers in logs",
}
# Surfaces this version does not have: switching them off asks for nothing.
_ABSENT = frozenset({"disable_mcp", "disable_a2a", "disable_ui", "disable_webhooks", "disable_event_streaming"})
# Surfaces it has, which stay on.
_ALWAYS_ON = frozenset({"disable_assistants", "disable_threads", "disable_runs", "disable_store", "disable_meta"})
_KNOWN = frozenset({"graphs", "dependencies", "env", "http", "store", "checkpointer"})


class StartError(Exception):
    """Heddle cannot start. `message` says why, `fix` says what to do about it."""

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} ({self.fix})"


class ConfigError(StartError):
    """The project file, or a file it names, is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphEntry:
    """Where a graph comes from: a variable of a file, or of a module that can be imported."""

    graph_id: str
    variable: str
    path: Path | None = None
    module: str | None = None
    description: str | None = None

    @property
    def source(self) -> str:
        """The entry as the user would write it, with an absolute path."""
        return f"{self.path or self.module}:{self.variable}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """`http.cors`: replaces the default policy for browsers as a whole."""

    allow_origins: Sequence[str] = ()
    allow_methods: Sequence[str] = ("GET",)
    allow_headers: Sequence[str] = ()
    allow_credentials: bool = False
    allow_origin_regex: str | None = None
    expose_headers: Sequence[str] = ()
    max_age: int = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRule:
    """Which request headers reach `config.configurable` of a run. Patterns are lower case, with `*`."""

    includes: Sequence[str] = TRACING_HEADERS
    excludes: Sequence[str] = ()

    def allows(self, name: str) -> bool:
        """Excludes win; a header that carries a credential must be named in full, no `*` lets it through."""
        name = name.lower()
        if any(fnmatchcase(name, pattern) for pattern in self.excludes):
            return False
        if name in SECRET_HEADERS:
            return name in self.includes
        return any(fnmatchcase(name, pattern) for pattern in self.includes)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    cors: Cors | None = None
    configurable_headers: HeaderRule = field(default_factory=HeaderRule)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectConfig:
    """A checked project file. All paths are absolute; relative ones were relative to the file."""

    path: Path
    graphs: Mapping[str, GraphEntry]
    import_paths: Sequence[Path] = ()
    packages: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    env_file: Path | None = None  # may be missing, if it is called .env
    http: HttpOptions = field(default_factory=HttpOptions)
    warnings: Sequence[str] = ()

    @property
    def root(self) -> Path:
        """The folder of the file: the project."""
        return self.path.parent

    @property
    def guest_migrations(self) -> Sequence[Path]:
        """The migrations that graph packages bring: a folder `migrations` beside a graph's file."""
        folders = {entry.path.parent / "migrations" for entry in self.graphs.values() if entry.path is not None}
        return sorted(folder for folder in folders if folder.is_dir())

    @classmethod
    def load(cls, path: Path | None = None) -> ProjectConfig:
        """Read `path`, or the file found by `discover`. Raises ConfigError, which names file, key and fix."""
        file = (path or discover(Path.cwd())).absolute()
        return _Reader(file).read()


def discover(folder: Path) -> Path:
    """The project file of a folder: agent.json, else langgraph.json."""
    for name in FILE_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(
        f"there is no agent.json or langgraph.json in {folder}",
        fix="go to your project's folder, name the file with --config FILE, or make an agent.json with "
        '{"graphs": {"my_agent": "./my_agent.py:graph"}}',
    )


class _Reader:
    """One file being read; it knows the file's name for its complaints and collects warnings."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._warnings: list[str] = []

    def read(self) -> ProjectConfig:
        content = self._parse()
        for key in content.keys() - _KNOWN - BUILD_ONLY - NOT_YET.keys():
            self._warnings.append(f"{self._file}: {key}: unknown key, ignored")
        for key in ("auth", "encryption", "webhooks", "ui", "ui_config"):
            self._refuse(key, content.get(key))
        for section, parts in (
            ("store", ("index", "ttl", "path")),
            ("checkpointer", ("ttl", "serde", "path")),
        ):
            inside = self._object(section, content.get(section))
            for part in parts:
                self._refuse(f"{section}.{part}", inside.get(part))
            self._warn_unknown(section, inside, parts)
        import_paths, packages = self._dependencies(content.get("dependencies"))
        env, env_file = self._env(content.get("env"))
        return ProjectConfig(
            path=self._file,
            graphs=MappingProxyType(self._graphs(content.get("graphs"))),
            import_paths=import_paths,
            packages=packages,
            env=MappingProxyType(env),
            env_file=env_file,
            http=self._http(self._object("http", content.get("http"))),
            warnings=tuple(sorted(self._warnings)),
        )

    def _parse(self) -> dict[str, Any]:
        try:
            text = self._file.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise ConfigError(f"{self._file} does not exist", fix="check the path given with --config") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self._file} cannot be read: {error}", fix="make it a readable UTF-8 file") from None
        try:
            content = json.loads(text, object_pairs_hook=self._no_duplicates)
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"{self._file} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}",
                fix="correct that line (often a missing or trailing comma, or a comment)",
            ) from None
        return self._object("the file", content)

    def _no_duplicates(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise self._wrong(twice, "appears twice in the same object", "keep one of the two")
        return content

    def _graphs(self, value: Any) -> dict[str, GraphEntry]:
        graphs = self._object("graphs", value)
        if not graphs:
            raise self._wrong("graphs", "names no graph", 'add one: {"graphs": {"my_agent": "./my_agent.py:graph"}}')
        return {graph_id: self._graph(graph_id, entry) for graph_id, entry in graphs.items()}

    def _graph(self, graph_id: str, entry: Any) -> GraphEntry:
        key = f"graphs.{graph_id}"
        if not graph_id.strip() or "\0" in graph_id:
            raise self._wrong(key, "a graph needs a name", "give it one, as in my_agent")
        description = None
        if isinstance(entry, dict):
            self._warn_unknown(key, entry, ("path", "description"))
            description = entry.get("description")
            if description is not None and not isinstance(description, str):
                raise self._wrong(f"{key}.description", "must be a text", "put it in quotes")
            entry = entry.get("path")
        example = "write path/to/file.py:variable or package.module:variable"
        if not isinstance(entry, str) or ":" not in entry:
            raise self._wrong(key, "must say where the graph is", example)
        place, _, variable = entry.rpartition(":")
        if not place or not variable.isidentifier():
            raise self._wrong(key, f"{entry!r} does not name a variable", example)
        if place.endswith((".ts", ".js", ".mts", ".mjs", ".tsx", ".jsx", ".cjs", ".cts")):
            raise self._wrong(key, "JavaScript graphs are not supported", "name a Python graph, or remove the entry")
        if not place.endswith(".py") and "/" not in place:
            return GraphEntry(graph_id=graph_id, module=place, variable=variable, description=description)
        path = (self._file.parent / place).resolve()
        if not path.is_file():
            raise self._wrong(
                key, f"there is no file {path}", f"correct the path; it is relative to {self._file.parent}"
            )
        return GraphEntry(graph_id=graph_id, path=path, variable=variable, description=description)

    def _dependencies(self, value: Any) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        paths: list[Path] = []
        packages: list[str] = []
        for index, entry in enumerate(self._texts("dependencies", value)):
            if not entry.startswith((".", "/")):
                packages.append(entry)
                continue
            folder = (self._file.parent / entry).resolve()
            if not folder.is_dir():
                raise self._wrong(f"dependencies[{index}]", f"there is no folder {folder}", "correct the path")
            paths.append(folder)
        return tuple(paths), tuple(packages)

    def _env(self, value: Any) -> tuple[dict[str, str], Path | None]:
        if value is None:
            return {}, None
        if isinstance(value, str):
            file = (self._file.parent / value).resolve()
            if not file.exists() and file.name == ".env":
                return {}, file  # the usual name: people make it when they have something to put in it
            if not file.is_file():
                raise self._wrong("env", f"there is no file {file}", f"make it, or remove the key: touch '{file}'")
            return read_env_file(file), file
        env = {}
        for name, text in self._object("env", value).items():
            if isinstance(text, bool) or not isinstance(text, str | int | float):
                raise self._wrong(f"env.{name}", "must be a text or a number", "put the value in quotes")
            env[name] = str(text)
        return env, None

    def _http(self, http: dict[str, Any]) -> HttpOptions:
        for key, value in http.items():
            if f"http.{key}" in NOT_YET:
                self._refuse(f"http.{key}", value)
            elif key in _ALWAYS_ON and value:
                raise self._wrong(f"http.{key}", "this version cannot switch it off", "remove the key")
        self._warn_unknown("http", http, ("cors", "configurable_headers", *_ABSENT, *_ALWAYS_ON, *_parts("http.")))
        cors = http.get("cors")
        headers = http.get("configurable_headers")
        return HttpOptions(
            cors=None if cors is None else self._cors(self._object("http.cors", cors)),
            configurable_headers=HeaderRule()
            if headers is None
            else self._headers("http.configurable_headers", self._object("http.configurable_headers", headers)),
        )

    def _cors(self, cors: dict[str, Any]) -> Cors:
        given: dict[str, Any] = {}
        for name in ("allow_origins", "allow_methods", "allow_headers", "expose_headers"):
            if cors.get(name) is not None:
                given[name] = tuple(self._texts(f"http.cors.{name}", cors[name]))
        if (credentials := cors.get("allow_credentials")) is not None:
            if not isinstance(credentials, bool):
                raise self._wrong("http.cors.allow_credentials", "must be true or false", "write it without quotes")
            given["allow_credentials"] = credentials
        if (max_age := cors.get("max_age")) is not None:
            if isinstance(max_age, bool) or not isinstance(max_age, int) or max_age < 0:
                raise self._wrong("http.cors.max_age", "must be a number of seconds", "write it as in 600")
            given["max_age"] = max_age
        if (regex := cors.get("allow_origin_regex")) is not None:
            try:
                re.compile(regex)
            except (re.error, TypeError) as error:
                raise self._wrong(
                    "http.cors.allow_origin_regex", f"is not a regular expression: {error}", "correct it"
                ) from None
            given["allow_origin_regex"] = regex
        self._warn_unknown("http.cors", cors, Cors.__dataclass_fields__)
        return Cors(**given)

    def _headers(self, key: str, rule: dict[str, Any]) -> HeaderRule:
        self._warn_unknown(key, rule, ("includes", "excludes"))
        lists = {
            name: tuple(text.lower() for text in self._texts(f"{key}.{name}", rule.get(name)))
            for name in ("includes", "excludes")
        }
        return HeaderRule(includes=lists["includes"], excludes=lists["excludes"])

    def _refuse(self, key: str, value: Any) -> None:
        if value is not None:
            raise self._wrong(
                key,
                f"{NOT_YET[key]}: not in this version of Heddle",
                "remove the key, or wait for the version that has it",
            )

    def _object(self, key: str, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(key, "must be an object", "write it as {...}")
        return value

    def _texts(self, key: str, value: Any) -> list[str]:
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "must be a list of texts", 'write it as ["...", "..."]')
        return value

    def _warn_unknown(self, section: str, content: Mapping[str, Any], known: Any) -> None:
        for key in content.keys() - set(known):
            self._warnings.append(f"{self._file}: {section}.{key}: unknown key, ignored")

    def _wrong(self, key: str, problem: str, fix: str) -> ConfigError:
        return ConfigError(f"{self._file}: {key}: {problem}", fix=fix)


def read_env_file(file: Path) -> dict[str, str]:
    """The assignments of a dotenv file; names without a value are left out."""
    from dotenv import dotenv_values  # only projects that have such a file pay for it

    return {name: value for name, value in dotenv_values(file).items() if value is not None}


def _parts(section: str) -> list[str]:
    return [key.removeprefix(section) for key in NOT_YET if key.startswith(section)]
