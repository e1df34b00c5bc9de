"""Who asks, for which project, in which request: all read from the run's configuration."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from graphs.dag_author.problems import Code, Refused
from heddle_kit.git import Identity

LOCAL_PROJECT = UUID("00000000-0000-0000-0000-000000000001")
LOCAL_USER = UUID("00000000-0000-0000-0000-000000000001")
_USERS = UUID("6f6b0c3e-3f0f-5a43-9d0b-7f6b7f1f5c11")  # names of users that are not UUIDs become UUIDs under this


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    project_id: UUID
    user_id: UUID
    author: Identity
    request_id: str | None
    thread_id: str | None


def asker(config: Mapping[str, Any]) -> Asker:
    """Who stands behind a run; Refused when the project is no UUID."""
    configurable = dict(config.get("configurable") or {})
    metadata = dict(config.get("metadata") or {})
    name = configurable.get("langgraph_auth_user_id")
    return Asker(
        project_id=_project(configurable.get("project_id")),
        user_id=_user(name),
        author=_author(name, configurable.get("langgraph_auth_user")),
        request_id=_text(configurable.get("run_id") or metadata.get("run_id") or config.get("run_id")),
        thread_id=_text(configurable.get("thread_id")),
    )


def _project(value: object) -> UUID:
    if value is None or value == "":
        return LOCAL_PROJECT
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        raise Refused.because(
            Code.PROJECT_INVALID,
            "configurable.project_id",
            "must be a UUID",
            got=value,
            allowed=str(LOCAL_PROJECT),
        ) from None


def _user(name: object) -> UUID:
    if not name:
        return LOCAL_USER
    try:
        return UUID(str(name))
    except ValueError:
        return uuid.uuid5(_USERS, str(name))


def _author(name: object, user: object) -> Identity:
    if not name:
        return Identity(name="local user", email="local@users.invalid")
    shown = user.get("display_name") if isinstance(user, Mapping) else None
    email = user.get("email") if isinstance(user, Mapping) else None
    return Identity(name=str(shown or name), email=str(email or f"{name}@users.invalid"))


def _text(value: object) -> str | None:
    return str(value)[:200] if value else None
