"""What clients get, for the API description. Answers are written by hand on the way out, not through these models."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from heddle_core.domain.run import MultitaskStrategy, RunStatus


class Problem(BaseModel):
    """One thing that is wrong with a request."""

    field: str
    problem: str


class Error(BaseModel):
    """Every error of this server. `detail` names the field at fault."""

    detail: str
    errors: list[Problem] = Field(default_factory=list)


class RunAnswer(BaseModel):
    """One execution of a graph on a thread."""

    model_config = ConfigDict(title="Run", extra="allow")

    run_id: UUID
    thread_id: UUID
    assistant_id: UUID
    created_at: datetime
    updated_at: datetime
    status: RunStatus
    metadata: dict[str, Any]
    kwargs: dict[str, Any]
    multitask_strategy: MultitaskStrategy
    langsmith_session_name: str | None = None


class SelectedRun(BaseModel):
    """The fields of a run that `select` named; all of them without it."""

    model_config = ConfigDict(extra="allow")

    run_id: UUID | None = None
    thread_id: UUID | None = None
    assistant_id: UUID | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    status: RunStatus | None = None
    metadata: dict[str, Any] | None = None
    kwargs: dict[str, Any] | None = None
    multitask_strategy: MultitaskStrategy | None = None


RunOutput = TypeAliasType("RunOutput", Any)
"""The output of the graph; with `__interrupt__` when it paused, `__error__` when it failed."""


class StreamEvent(BaseModel):
    """One event of a stream. `data` is JSON text; `id` is there only for resumable runs."""

    event: str
    data: str
    id: str = ""


class Empty(BaseModel):
    """An object without fields."""


class OkAnswer(BaseModel):
    ok: Literal[True]


class ReadinessAnswer(BaseModel):
    """`checks` names what is not well; the reason is told to callers on this machine only."""

    status: Literal["up", "degraded", "draining", "down"]
    checks: dict[str, str]


class InfoAnswer(BaseModel):
    """`version` is the API level that is implemented; `flags` say what is off."""

    model_config = ConfigDict(extra="allow")

    version: str
    heddle_version: str
    langgraph_py_version: str
    flags: dict[str, bool]
    host: dict[str, str | None]
