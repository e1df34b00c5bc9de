"""How routes document what they answer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_MEANING = {
    400: "The request makes no sense here",
    404: "No such resource",
    409: "It exists already, or it is in use",
    422: "A field is missing or wrong",
    503: "The server cannot do it now",
}


class Problem(BaseModel):
    """What went wrong; `detail` names the field, if one is at fault."""

    detail: str


def answers(model: Any, *problems: int) -> dict[int | str, dict[str, Any]]:
    """The documented answers of a route: 200 with this model (None: 204 without a body), and these problems."""
    told: dict[int | str, dict[str, Any]] = {
        code: {"model": Problem, "description": _MEANING[code]} for code in problems
    }
    return {**({} if model is None else {200: {"model": model}}), **told}
