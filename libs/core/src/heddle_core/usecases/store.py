"""The long-term store: JSON objects under a namespace and a key."""

from __future__ import annotations

from collections.abc import Sequence

from heddle_core.domain.item import Item, Namespace, check_key, check_labels, check_namespace, conditions
from heddle_core.domain.json import JsonObject
from heddle_core.domain.storable import check_json
from heddle_core.ports.storage import ItemFilter, NamespaceFilter
from heddle_core.usecases.context import Ports


async def put(ports: Ports, namespace: Namespace, key: str, value: JsonObject) -> None:
    """Write an item, whole."""
    _check_address(namespace, key)
    check_json(value, "value")
    async with ports.storage.single() as unit:
        await unit.items.put(namespace, key, value)


async def get(ports: Ports, namespace: Namespace, key: str) -> Item | None:
    _check_address(namespace, key)
    async with ports.storage.single() as unit:
        return await unit.items.get(namespace, key)


async def delete(ports: Ports, namespace: Namespace, key: str) -> None:
    """Remove an item; it need not exist."""
    _check_address(namespace, key)
    async with ports.storage.single() as unit:
        await unit.items.delete(namespace, key)


async def search(ports: Ports, prefix: Namespace, wanted: JsonObject, *, limit: int, offset: int) -> Sequence[Item]:
    """Items under the prefix whose values meet `wanted` (`domain.item.conditions`), newest change first."""
    check_labels(prefix, "namespace_prefix")
    meeting = ItemFilter(prefix=prefix, conditions=conditions(wanted, "filter"))
    async with ports.storage.single() as unit:
        return await unit.items.search(meeting, limit, offset)


async def namespaces(ports: Ports, wanted: NamespaceFilter) -> Sequence[Namespace]:
    check_labels(wanted.prefix, "prefix")
    check_labels(wanted.suffix, "suffix")
    async with ports.storage.single() as unit:
        return await unit.items.namespaces(wanted)


def _check_address(namespace: Namespace, key: str) -> None:
    check_namespace(namespace, "namespace")
    check_key(key, "key")
