"""The assistants that runs start with, kept in memory.

Promise: an entry is what the database held at some moment after the last `invalidate` of its id. Another process
may have changed the row since, so whoever opens a run compares `version` with the row and invalidates when they
differ (`NotOpened.STALE_ASSISTANT`).
"""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from heddle_core.domain.assistant import Assistant
from heddle_core.domain.errors import InvalidRequest, NotFound
from heddle_core.domain.ids import AssistantId, system_assistant_id
from heddle_core.ports.graph_runtime import GraphCatalog
from heddle_core.ports.storage import Storage

_SHOWN = 100
"""How much of a wrong reference, and how many graphs, an error repeats."""


class AssistantCache:
    """Finds assistants by reference; remembers the `size` most recently used."""

    def __init__(self, storage: Storage, catalog: GraphCatalog, *, size: int = 1024) -> None:
        self._storage = storage
        self._catalog = catalog
        self._size = size
        self._known: OrderedDict[AssistantId, Assistant] = OrderedDict()
        self._changes = 0

    async def get(self, ref: str) -> Assistant:
        """`ref` is a graph id, which means that graph's system assistant, or the UUID of an assistant.

        Raises `InvalidRequest` when it is neither, `NotFound` when there is no such assistant.
        """
        assistant_id = resolve(ref, self._catalog)
        if assistant_id is None:
            raise _neither(ref, self._catalog)
        known = self._known.get(assistant_id)
        if known is not None:
            self._known.move_to_end(assistant_id)
            return known
        return await self._load(assistant_id)

    async def reload(self, assistant_id: AssistantId) -> Assistant:
        """The row as it is now. Raises `NotFound` when it is gone."""
        self.invalidate(assistant_id)
        return await self._load(assistant_id)

    def invalidate(self, assistant_id: AssistantId) -> None:
        """Forget an assistant that was changed or removed. Call it after the commit."""
        self._changes += 1
        self._known.pop(assistant_id, None)

    async def _load(self, assistant_id: AssistantId) -> Assistant:
        changes = self._changes
        async with self._storage.single() as unit:
            found = await unit.assistants.get(assistant_id)
        if found is None:
            raise NotFound.assistant(assistant_id)
        if changes == self._changes:  # otherwise this row may be older than an invalidate
            self._known[assistant_id] = found
            self._known.move_to_end(assistant_id)
            while len(self._known) > self._size:
                self._known.popitem(last=False)
        return found


def resolve(ref: str, catalog: GraphCatalog) -> AssistantId | None:
    """The id a reference means; None when it is neither a graph nor a UUID. The assistant need not exist."""
    if ref in catalog.graphs:
        return system_assistant_id(ref)
    if len(ref) not in (32, 36):  # the other spellings that UUID() takes are not ours
        return None
    try:
        return AssistantId(UUID(ref))
    except ValueError:
        return None


def _neither(ref: str, catalog: GraphCatalog) -> InvalidRequest:
    graphs = ", ".join(sorted(catalog.graphs)[:_SHOWN]) or "none are configured"
    shown = ref if len(ref) <= _SHOWN else f"{ref[:_SHOWN]}…"
    shown = shown.encode(errors="replace").decode()
    return InvalidRequest(
        f"Invalid assistant: '{shown}'. Must be either:\n- A valid assistant UUID, or\n"
        f"- One of the registered graphs: {graphs}"
    )
