"""The header `Prefer: return=minimal` (RFC 7240): the client wants no body back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header

Prefer = Annotated[str | None, Header(description="`return=minimal`: 204 without a body")]

NO_BODY: dict[int | str, dict[str, Any]] = {204: {"description": "Done, as `Prefer: return=minimal` asked"}}


def is_minimal(prefer: str | None) -> bool:
    return prefer is not None and "return=minimal" in (part.strip().lower() for part in prefer.split(","))
