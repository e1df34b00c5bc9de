"""An item of the long-term store: a JSON object under a namespace and a key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from heddle_core.domain.json import Encoded

Namespace = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    namespace: Namespace
    key: str
    value: Encoded
    created_at: datetime
    updated_at: datetime
