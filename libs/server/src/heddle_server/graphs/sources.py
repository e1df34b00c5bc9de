"""Finds the variable that a graph entry names: `path.py:variable` or `package.module:variable`.

A file below one of the project's folders is imported under its natural dotted name, so that it may use relative
imports and is not loaded twice, and so that classes kept in checkpoints are found again on another machine. Any
other file gets a name made from its path.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from asyncio import CancelledError
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from heddle_core.domain.errors import GraphLoadError


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSpec:
    """One entry of the configuration's `graphs`."""

    graph_id: str
    path: str
    description: str | None = None


class Sources:
    """Imports one project's modules. Its local dependencies are put on the import path, after what is there."""

    def __init__(self, base: Path, dependencies: Sequence[str] = ()) -> None:
        self._base = base.resolve()
        folders = [(self._base / name).resolve() for name in dependencies if name.startswith((".", "/"))]
        missing = [str(folder) for folder in folders if not folder.exists()]
        if missing:
            raise GraphLoadError(f"dependencies: no such folder: {', '.join(missing)}; correct or remove the entry")
        candidates = [root for folder in folders or [self._base] for root in (folder, folder / "src")]
        self._roots = [root for root in candidates if root.is_dir()]
        for root in self._roots:
            if str(root) not in sys.path:
                sys.path.append(str(root))

    def variable(self, spec: GraphSpec) -> Any:
        """The object that the entry names. Raises `GraphLoadError`, whatever the module does when imported."""
        where, colon, name = spec.path.rpartition(":")
        if not colon or not where or not name:
            raise GraphLoadError(
                f"graph '{spec.graph_id}': '{spec.path}' is not an entry; write `path/to/file.py:variable` "
                "or `package.module:variable`"
            )
        module = self._import(spec, where)
        try:
            return getattr(module, name)
        except AttributeError:
            raise GraphLoadError(
                f"graph '{spec.graph_id}': {where} has no variable '{name}'; it has {_public_names(module)}"
            ) from None

    def _import(self, spec: GraphSpec, where: str) -> ModuleType:
        is_file = where.endswith(".py") or "/" in where
        file = (self._base / where).resolve() if is_file else None
        if file is not None and not file.is_file():
            raise GraphLoadError(f"graph '{spec.graph_id}': no such file: {file}; correct the path in `graphs`")
        try:
            return self._import_file(file) if file is not None else importlib.import_module(where)
        except (KeyboardInterrupt, CancelledError):
            raise
        except BaseException as problem:  # the guest's module: it may raise anything, `SystemExit` too
            raise GraphLoadError(
                f"graph '{spec.graph_id}': importing {where} failed{_place(problem)}: "
                f"{type(problem).__name__}: {problem}; {_remedy(problem)}"
            ) from problem

    def _import_file(self, file: Path) -> ModuleType:
        for root in self._roots:
            if (name := _dotted_name(file, root)) is not None and _leads_to(name, file):
                return importlib.import_module(name)
        name = "heddle_graph_" + re.sub(r"\W+", "_", _relative(file, self._base))
        if (loaded := sys.modules.get(name)) is not None:
            return loaded
        found = importlib.util.spec_from_file_location(name, file)
        if found is None or found.loader is None:
            raise ImportError(f"{file} is not a Python source file")
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module
        try:
            found.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


def _dotted_name(file: Path, root: Path) -> str | None:
    if not file.is_relative_to(root):
        return None
    parts = file.relative_to(root).with_suffix("").parts
    if parts and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else None


def _leads_to(name: str, file: Path) -> bool:
    """Would importing this name load this very file? Another module may own the name."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return False
    return found is not None and found.origin is not None and Path(found.origin).resolve() == file


def _relative(file: Path, base: Path) -> str:
    return str(file.relative_to(base) if file.is_relative_to(base) else file).removesuffix(".py")


def _public_names(module: ModuleType) -> str:
    names = sorted(name for name in vars(module) if not name.startswith("_"))
    return ", ".join(names[:20]) or "no public names"


def _place(problem: BaseException) -> str:
    """The last line of the guest's own code that the error passed through."""
    if isinstance(problem, SyntaxError) and problem.filename:
        return f" at {problem.filename}:{problem.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(problem.__traceback__)
        if "importlib" not in frame.filename and not frame.filename.startswith("<") and frame.filename != __file__
    ]
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _remedy(problem: BaseException) -> str:
    if isinstance(problem, ModuleNotFoundError):
        return f"install the package that has '{problem.name}', or add its folder to `dependencies`"
    if isinstance(problem, SystemExit):
        return "a graph module must not exit the process when it is imported"
    return "correct the module"
