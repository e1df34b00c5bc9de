"""How JSON travels inside the server.

`Json` is the user's own data, decoded. `Encoded` is JSON text, encoded once: most of what the server stores it
only hands on, so rows carry text from the database to the socket without a decode and an encode between.
"""

from __future__ import annotations

import json
from typing import Any, NewType, TypeAlias

Json: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Any]
Encoded = NewType("Encoded", bytes)

EMPTY_OBJECT = Encoded(b"{}")
NULL = Encoded(b"null")

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def encode(value: Json) -> Encoded:
    """For small values that the server makes itself; the edges have faster encoders for the user's data."""
    return Encoded(_encoder.encode(value).encode("utf-8", "replace"))
