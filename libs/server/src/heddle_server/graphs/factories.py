"""Calls graph factories: functions and (async) context managers that take nothing, `config` and/or `runtime`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from langchain_core.runnables import RunnableConfig
from langgraph.store.base import BaseStore
from langgraph_sdk import runtime as sdk_runtime
from pydantic import BaseModel

from heddle_core.domain.errors import GraphLoadError
from heddle_core.ports.graph_runtime import Access

ServerRuntime: Any = sdk_runtime.ServerRuntime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a factory is told about why its graph is wanted."""

    access: Access
    config: RunnableConfig
    context: Any = None


class Factory:
    """A graph factory with its parameters understood, once."""

    def __init__(self, graph_id: str, function: Callable[..., Any], store: BaseStore | None) -> None:
        self._function = function
        self._store = store
        self._config_names, self._runtime_names = _parameters(graph_id, function)
        self._positional = _positional_only(function)
        self._context_type = _context_type(function)

    @asynccontextmanager
    async def build(self, wish: Wish) -> AsyncIterator[Any]:
        """What the factory makes. A context manager is left when this block is left."""
        made = self._call(wish)
        if inspect.isawaitable(made):
            made = await made
        if inspect.isasyncgen(made):
            made = asynccontextmanager(lambda: made)()
        if isinstance(made, AbstractAsyncContextManager):
            async with made as graph:
                yield graph
        elif isinstance(made, AbstractContextManager):
            with made as graph:
                yield graph
        else:
            yield made

    def _call(self, wish: Wish) -> Any:
        given: dict[str, Any] = dict.fromkeys(self._config_names, wish.config)
        if self._runtime_names:
            given |= dict.fromkeys(self._runtime_names, self._runtime(wish))
        first = [given.pop(name) for name in self._positional if name in given]
        return self._function(*first, **given)

    def _runtime(self, wish: Wish) -> Any:
        # The SDK has no public way to make one; these two classes are what the public alias stands for.
        common: dict[str, Any] = {"access_context": wish.access.value, "user": None, "store": self._store}
        if wish.access is not Access.CREATE_RUN:
            return sdk_runtime._ReadRuntime(**common)
        context = wish.context
        if self._context_type is not None and isinstance(context, Mapping):
            context = self._context_type(**context)
        return sdk_runtime._ExecutionRuntime(**common, context=context)


def _parameters(graph_id: str, function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """The names of the parameters that take the config and of those that take the runtime."""
    hints = _hints(function)
    configs: list[str] = []
    runtimes: list[str] = []
    unknown: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(name, parameter.annotation)
        if _is_runtime(hint) or name == "runtime":
            runtimes.append(name)
        elif hint is RunnableConfig or "RunnableConfig" in str(hint) or name == "config":
            configs.append(name)
        elif parameter.default is parameter.empty:
            unknown.append(name)
    if len(unknown) == 1 and not configs:
        configs, unknown = unknown, []  # one parameter of any name has always meant the config
    if unknown:
        raise GraphLoadError(
            f"graph '{graph_id}': the factory asks for {', '.join(unknown)}; it may take `config: RunnableConfig` "
            "and `runtime: ServerRuntime`, give anything else a default"
        )
    return configs, runtimes


def _positional_only(function: Callable[..., Any]) -> list[str]:
    found = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in found if parameter.kind is parameter.POSITIONAL_ONLY]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        return get_type_hints(inspect.unwrap(target))
    except Exception:  # foreign annotations may name what is only imported for type checking
        return {}


def _is_runtime(hint: Any) -> bool:
    if hint is ServerRuntime or get_origin(hint) is ServerRuntime:
        return True
    return "ServerRuntime" in (hint if isinstance(hint, str) else str(hint))


def _context_type(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The class inside `ServerRuntime[Context]`, when it can be built from keywords."""
    for hint in _hints(function).values():
        for argument in get_args(hint) if _is_runtime(hint) else ():
            if isinstance(argument, type) and (is_dataclass(argument) or issubclass(argument, BaseModel)):
                return argument
    return None
