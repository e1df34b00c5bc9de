"""What all request bodies share (server-api 1.1): unknown fields are ignored, null counts as absent, and a field
that the protocol knows and this version does not do is refused by name."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from heddle_core.domain.errors import NotInThisVersion


class Body(BaseModel):
    """A request body. `not_yet` names the fields that are refused; `nullable` those where null means something;
    `nul_in` those that are the graph's own data, where NUL characters are kept (elsewhere they are 422)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    not_yet: ClassVar[frozenset[str]] = frozenset()
    nullable: ClassVar[frozenset[str]] = frozenset()
    nul_in: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name in cls.not_yet:
            if given.get(name) is not None:
                raise NotInThisVersion(f"body.{name}")
        return {k: v for k, v in given.items() if v is not None or k in cls.nullable}
