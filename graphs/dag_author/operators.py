"""The Airflow operators a DAG file may use, and where each Airflow major keeps them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A class and its module in Airflow 3 and 2; one module when both have it in the same place."""

    name: str
    airflow_3: str
    airflow_2: str

    @property
    def same_in_both(self) -> bool:
        return self.airflow_3 == self.airflow_2


_STANDARD = "airflow.providers.standard"
_SQL = "airflow.providers.common.sql.operators.sql"


def _standard(name: str, module: str, airflow_2: str) -> Operator:
    return Operator(name=name, airflow_3=f"{_STANDARD}.{module}", airflow_2=f"airflow.{airflow_2}")


OPERATORS: dict[str, Operator] = {
    "python": _standard("PythonOperator", "operators.python", "operators.python"),
    "bash": _standard("BashOperator", "operators.bash", "operators.bash"),
    "empty": _standard("EmptyOperator", "operators.empty", "operators.empty"),
    "branch": _standard("BranchPythonOperator", "operators.python", "operators.python"),
    "short_circuit": _standard("ShortCircuitOperator", "operators.python", "operators.python"),
    "sql": Operator(name="SQLExecuteQueryOperator", airflow_3=_SQL, airflow_2=_SQL),
    "trigger_dag": _standard("TriggerDagRunOperator", "operators.trigger_dagrun", "operators.trigger_dagrun"),
    "wait_file": _standard("FileSensor", "sensors.filesystem", "sensors.filesystem"),
    "wait_python": _standard("PythonSensor", "sensors.python", "sensors.python"),
    "wait_time": _standard("TimeDeltaSensor", "sensors.time_delta", "sensors.time_delta"),
    "wait_dag": _standard("ExternalTaskSensor", "sensors.external_task", "sensors.external_task"),
}
