"""Which files a project is made of, and whether a change to them can be served at all."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from heddle_server.config import ProjectConfig

# What a graph may read when it is loaded, besides its code.
_SUFFIXES = {".py", ".json", ".yaml", ".yml", ".toml", ".j2", ".jinja", ".jinja2", ".sql", ".txt"}
_OWN_PACKAGES = ("heddle_core", "heddle_server", "heddle_cli", "heddle_kit")
_IGNORED = {"__pycache__", "node_modules", "site-packages", "venv", "build", "dist", "tests"}


def folders(config: ProjectConfig) -> list[Path]:
    """What to watch: the folders of the graphs, of their dependencies and of our own code, if it can change."""
    found = {entry.path.parent for entry in config.graphs.values() if entry.path is not None}
    for root in config.import_paths:
        found.update(child for child in root.iterdir() if child.is_dir() and _matters(child))
    found.update(_editable_libraries())
    paths = {folder.resolve() for folder in found}
    outer = {path for path in paths if not any(parent in paths for parent in path.parents)}
    return sorted(outer | _single_files(config))


def _single_files(config: ProjectConfig) -> set[Path]:
    files = {config.path}
    if config.env_file is not None and config.env_file.exists():
        files.add(config.env_file)
    for root in config.import_paths:
        files.update(child for child in root.iterdir() if child.suffix in _SUFFIXES and child.is_file())
    return {file.resolve() for file in files}


def _editable_libraries() -> Iterator[Path]:
    for name in _OWN_PACKAGES:
        spec = importlib.util.find_spec(name)
        for folder in (spec and spec.submodule_search_locations) or ():
            if "site-packages" not in Path(folder).parts:
                yield Path(folder)


def _matters(folder: Path) -> bool:
    return folder.name not in _IGNORED and not folder.name.startswith(".") and not folder.name.endswith(".egg-info")


class Watcher:
    """Tells of changes through a descriptor, which becomes readable; `changed` says what changed.

    Every change after the construction is told. The system's notifications begin later, by an import and a walk through
    all folders, so what changed until then is found by comparing the files' times.
    """

    def __init__(self, config: ProjectConfig, ignored: Path) -> None:
        self.ready, self._writer = os.pipe()
        self._ignored = ignored
        self._named = {config.path.resolve(), config.env_file}
        self._found: set[Path] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._roots = folders(config)
        self._times: dict[Path, int] | None = self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def changed(self) -> list[Path]:
        """The files that changed since the last call."""
        os.read(self.ready, 65536)
        with self._lock:
            found, self._found = self._found, set()
        return sorted(found)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(2)
        os.close(self.ready)
        os.close(self._writer)

    def _watch(self) -> None:
        from watchfiles import watch  # here: it costs 40 ms, and the child is importing meanwhile

        for changes in watch(
            *self._roots,
            debounce=300,
            step=50,
            stop_event=self._stop,
            watch_filter=None,
            raise_interrupt=False,
            rust_timeout=1000,
            yield_on_timeout=True,
        ):
            relevant = {Path(path) for _, path in changes if self._is_relevant(Path(path))} | self._missed()
            if relevant and not self._stop.is_set():
                with self._lock:
                    self._found |= relevant
                os.write(self._writer, b".")

    def _missed(self) -> set[Path]:
        """What changed before the notifications began; nothing when asked again."""
        before, self._times = self._times, None
        if before is None:
            return set()
        now = self._look()
        return {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}

    def _look(self) -> dict[Path, int]:
        """When each file that matters was changed last."""
        found = {}
        for path in self._files():
            if self._is_relevant(path):
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                    found[path] = path.stat().st_mtime_ns
        return found

    def _files(self) -> Iterator[Path]:
        for root in self._roots:
            if root.is_file():
                yield root
            for folder, below, names in os.walk(root):
                below[:] = [name for name in below if _matters(Path(name))]
                yield from (Path(folder, name) for name in names)

    def _is_relevant(self, path: Path) -> bool:
        if path in self._named:
            return True
        if path.suffix not in _SUFFIXES or path.name.startswith(".") or path.is_relative_to(self._ignored):
            return False
        root = next((root for root in self._roots if path.is_relative_to(root)), path.parent)
        return all(_matters(Path(part)) for part in path.relative_to(root).parts[:-1])


def syntax_error(paths: Sequence[Path]) -> str | None:
    """The first of these Python files that does not parse, with its line, or None."""
    for path in paths:
        if path.suffix != ".py" or not path.is_file():
            continue
        try:
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        except SyntaxError as error:
            return f"{path}, line {error.lineno}: {error.msg}"
        except ValueError as error:
            return f"{path}: {error}"
    return None
