"""What a DAG is, before it is a file: a strict, closed description in the vocabulary of `POST /create-dag`.

Nothing is converted here. `reading.py` turns what people and models write into this form, and
`checks.py` judges what one field alone cannot tell (the graph, the code, the clock).
"""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from graphs.dag_author import limits
from graphs.dag_author.naming import DAG_ID, TASK_ID, shadows

DEFAULT_START = "2024-01-01"
PARAMETERS = 200
KEY_LENGTH = 200

TRIGGER_RULES = (
    "all_success",
    "all_failed",
    "all_done",
    "all_skipped",
    "one_success",
    "one_failed",
    "one_done",
    "none_failed",
    "none_skipped",
    "none_failed_min_one_success",
    "always",
)
TriggerRule = Literal[
    "all_success",
    "all_failed",
    "all_done",
    "all_skipped",
    "one_success",
    "one_failed",
    "one_done",
    "none_failed",
    "none_skipped",
    "none_failed_min_one_success",
    "always",
]


def _storable(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("spec_invalid", "must not hold a NUL character")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise PydanticCustomError("spec_invalid", "must be valid Unicode, without lone surrogates")
    return text


def _one_line(text: str) -> str:
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in _storable(text)):
        raise PydanticCustomError("spec_invalid", "must be one line without control characters")
    if text != text.strip() or not text:
        raise PydanticCustomError("spec_invalid", "must not be empty or have spaces around it")
    return text


def _foreign_id(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+", text):
        raise PydanticCustomError("spec_invalid", "must be made of letters, digits, dots, dashes and underscores")
    return text


def _plain_json(value: Any, depth: int = 0) -> Any:
    """Values a DAG file can hold as literals: JSON, finite, not too deep."""
    if depth > limits.NESTING:
        raise PydanticCustomError("spec_invalid", "is nested too deeply")
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("spec_invalid", "must be a finite number")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list):
        return [_plain_json(item, depth + 1) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) and len(key) <= KEY_LENGTH for key in value):
        return {_storable(key): _plain_json(item, depth + 1) for key, item in value.items()}
    raise PydanticCustomError("spec_invalid", "must be made of JSON values with text keys")


def _json_object(value: dict[str, Any]) -> dict[str, Any]:
    if len(value) > PARAMETERS:
        raise PydanticCustomError("spec_invalid", "has too many entries")
    checked: dict[str, Any] = _plain_json(value)
    return checked


Line = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]
Body = Annotated[str, Field(max_length=limits.BODY_LENGTH), AfterValidator(_storable)]
TaskId = Annotated[str, Field(pattern=TASK_ID.pattern)]
DagId = Annotated[str, Field(pattern=DAG_ID.pattern)]
ForeignId = Annotated[str, Field(max_length=250), AfterValidator(_foreign_id)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_json_object)]
Minutes = Annotated[int, Field(ge=1, le=525_600)]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Task(Strict):
    """What every task has, whatever it does."""

    task_id: TaskId
    dependencies: list[TaskId] = []
    trigger_rule: TriggerRule = "all_success"
    retries: Annotated[int, Field(ge=0, le=100)] | None = None
    retry_delay_minutes: Annotated[int, Field(ge=0, le=10_080)] | None = None
    execution_timeout_minutes: Minutes | None = None
    pool: Line | None = None


class PythonTask(Task):
    task_type: Literal["python", "branch", "short_circuit"]
    python_code: Body


class BashTask(Task):
    task_type: Literal["bash"]
    bash_command: Body
    env: dict[Line, Body] | None = None
    append_env: bool = True
    cwd: Line | None = None


class EmptyTask(Task):
    task_type: Literal["empty"]


class SqlTask(Task):
    task_type: Literal["sql"]
    conn_id: ForeignId
    sql: Body | Annotated[list[Body], Field(min_length=1, max_length=200)]
    parameters: JsonObject | None = None


class TriggerDagTask(Task):
    task_type: Literal["trigger_dag"]
    trigger_dag_id: ForeignId
    conf: JsonObject | None = None


class Sensor(Task):
    """A task that waits. It gives its worker slot back between looks."""

    poke_interval_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    timeout_minutes: Minutes = 720


class WaitFileTask(Sensor):
    task_type: Literal["wait_file"]
    filepath: Line
    fs_conn_id: ForeignId = "fs_default"


class WaitPythonTask(Sensor):
    task_type: Literal["wait_python"]
    python_code: Body


class WaitTimeTask(Sensor):
    task_type: Literal["wait_time"]
    wait_minutes: Minutes


class WaitDagTask(Sensor):
    task_type: Literal["wait_dag"]
    external_dag_id: ForeignId
    external_task_id: ForeignId | None = None
    execution_delta_minutes: Annotated[int, Field(ge=0, le=525_600)] = 0


AnyTask = Annotated[
    PythonTask
    | BashTask
    | EmptyTask
    | SqlTask
    | TriggerDagTask
    | WaitFileTask
    | WaitPythonTask
    | WaitTimeTask
    | WaitDagTask,
    Field(discriminator="task_type"),
]


class DagSpec(Strict):
    """A whole DAG. `dag_id` is given only when one particular id is wanted."""

    dag_name: Annotated[str, Field(min_length=1, max_length=limits.NAME_LENGTH), AfterValidator(_one_line)]
    dag_id: DagId | None = None
    description: Annotated[str, Field(max_length=limits.DESCRIPTION_LENGTH), AfterValidator(_storable)] = ""
    schedule_interval: Annotated[str, Field(max_length=200)] | None = None
    interval_minutes: Minutes | None = None
    timezone: str = "UTC"
    start_date: str = DEFAULT_START
    catchup: bool = False
    max_active_runs: Annotated[int, Field(ge=1, le=1000)] = 1
    owner: Annotated[str, Field(max_length=100), AfterValidator(_one_line)] = "airflow"
    tags: Annotated[list[Annotated[str, Field(max_length=100), AfterValidator(_one_line)]], Field(max_length=20)] = []
    retries: Annotated[int, Field(ge=0, le=100)] = 1
    retry_delay_minutes: Annotated[int, Field(ge=0, le=10_080)] = 5
    depends_on_past: bool = False
    params: JsonObject | None = None
    tasks: list[AnyTask]

    @field_validator("dag_id")
    @classmethod
    def _hides_no_module(cls, value: str | None) -> str | None:
        if value is not None and shadows(value):
            raise PydanticCustomError("spec_invalid", "would hide the Python module of that name; add _dag to it")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as fault:
            raise PydanticCustomError("timezone_unknown", "must name a time zone such as Europe/Paris") from fault
        return value

    @field_validator("start_date")
    @classmethod
    def _is_a_date(cls, value: str) -> str:
        try:
            when = datetime.fromisoformat(value)
        except ValueError as fault:
            raise PydanticCustomError(
                "start_date_invalid", "must be an ISO date or date and time such as 2024-01-31"
            ) from fault
        if not 1970 <= when.year <= 2200:
            raise PydanticCustomError("start_date_invalid", "must be between the years 1970 and 2200")
        return value

    @field_validator("params")
    @classmethod
    def _names_are_identifiers(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value and not all(name.isidentifier() for name in value):
            raise PydanticCustomError("spec_invalid", "must have names that are Python identifiers")
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> DagSpec:
        if self.schedule_interval is not None and self.interval_minutes is not None:
            raise PydanticCustomError("schedule_invalid", "give schedule_interval or interval_minutes, not both")
        scheduled = self.schedule_interval is not None or self.interval_minutes is not None
        empty = [name for name, value in (self.params or {}).items() if value is None]
        if scheduled and empty:
            raise PydanticCustomError(
                "spec_invalid", "a scheduled DAG needs a default for the parameter {name}", {"name": empty[0]}
            )
        return self


TASK_TYPES = (
    "python",
    "branch",
    "short_circuit",
    "bash",
    "empty",
    "sql",
    "trigger_dag",
    "wait_file",
    "wait_python",
    "wait_time",
    "wait_dag",
)
TASKS: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)


def fields_of(task_type: str) -> list[str]:
    """The fields a task of this type may have; all of them when the type is unknown."""
    models = (
        PythonTask,
        BashTask,
        EmptyTask,
        SqlTask,
        TriggerDagTask,
        WaitFileTask,
        WaitPythonTask,
        WaitTimeTask,
        WaitDagTask,
    )
    for model in models:
        if task_type in model.model_fields["task_type"].annotation.__args__:  # type: ignore[union-attr]
            return list(model.model_fields)
    return sorted({name for model in models for name in model.model_fields})
