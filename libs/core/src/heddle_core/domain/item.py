"""An item of the long-term store: a JSON object under a namespace and a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from heddle_core.domain.errors import BadRequest, InvalidRequest
from heddle_core.domain.json import Encoded, Json, JsonObject
from heddle_core.domain.storable import check_json, check_text

Namespace = tuple[str, ...]

# Namespace and key are one index entry, which Postgres limits to about 2700 bytes.
MAX_LABELS = 64
MAX_NAMESPACE_BYTES = 1024
MAX_KEY_BYTES = 1024

MAX_CONDITIONS = 100

ANY_LABEL = "*"
RESERVED_ROOT = "langgraph"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    namespace: Namespace
    key: str
    value: Encoded
    created_at: datetime
    updated_at: datetime


class Operator(StrEnum):
    """How a condition compares. A value without the key meets no condition, whatever the operator.

    `$eq` and `$ne` compare whole JSON values. The others compare numbers with numbers and strings with strings (by
    code point); values of two kinds are not ordered.
    """

    EQ = "$eq"
    NE = "$ne"
    GT = "$gt"
    GTE = "$gte"
    LT = "$lt"
    LTE = "$lte"

    @property
    def orders(self) -> bool:
        return self not in (Operator.EQ, Operator.NE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a key of an item's value must be."""

    key: str
    operator: Operator
    operand: Json


def check_key(key: str, field: str) -> None:
    check_text(key, field)
    if not key:
        raise InvalidRequest("must not be empty", field=field)
    if len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidRequest(f"must not be longer than {MAX_KEY_BYTES} bytes", field=field)


def check_labels(labels: Sequence[str], field: str) -> None:
    """The rules for every list of labels: a namespace, a prefix or a suffix of one."""
    if len(labels) > MAX_LABELS:
        raise InvalidRequest(f"must not have more than {MAX_LABELS} labels", field=field)
    for label in labels:
        check_text(label, field)
        if not label:
            raise InvalidRequest("must not have an empty label", field=field)
        if "." in label:
            raise InvalidRequest("must not have a label with a dot", field=field)
    if sum(len(label.encode()) for label in labels) > MAX_NAMESPACE_BYTES:
        raise InvalidRequest(f"must not be longer than {MAX_NAMESPACE_BYTES} bytes in all", field=field)


def check_namespace(namespace: Sequence[str], field: str) -> None:
    """The rules for the namespace of an item."""
    check_labels(namespace, field)
    if not namespace:
        raise BadRequest(f"{field}: must have at least one label")
    if namespace[0] == RESERVED_ROOT:
        raise BadRequest(f"{field}: must not begin with the label {RESERVED_ROOT!r}, which is reserved")


def conditions(wanted: JsonObject, field: str) -> tuple[Condition, ...]:
    """Read a filter: a key maps to the value it must equal, or to an object of operators and operands."""
    check_json(wanted, field)
    read = tuple(found for key, given in wanted.items() for found in _conditions_of(key, given, f"{field}.{key}"))
    if len(read) > MAX_CONDITIONS:
        raise InvalidRequest(f"must not have more than {MAX_CONDITIONS} conditions", field=field)
    return read


def _conditions_of(key: str, given: Json, field: str) -> list[Condition]:
    if not isinstance(given, dict) or not any(name.startswith("$") for name in given):
        return [Condition(key=key, operator=Operator.EQ, operand=given)]
    found = []
    for name, operand in given.items():
        if name not in frozenset(Operator):
            raise InvalidRequest(f"{name} is not an operator; use one of {', '.join(Operator)}", field=field)
        operator = Operator(name)
        if operator.orders and (isinstance(operand, bool) or not isinstance(operand, str | int | float)):
            raise InvalidRequest(f"{operator} needs a number or a string", field=field)
        found.append(Condition(key=key, operator=operator, operand=operand))
    return found
