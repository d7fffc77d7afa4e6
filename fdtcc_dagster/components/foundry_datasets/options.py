"""The YAML form of what is made of datasets: retries, automation, a sensor, checks and freshness.

The models' fields are arguments of the functions that make them, and the functions say in detail what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import Field, StrictInt

from fdtcc_dagster.components.foundry_datasets.building import to_timedelta
from fdtcc_dagster.components.foundry_datasets.calendar_models import Duration, Text, optional
from fdtcc_dagster.components.foundry_datasets.templates import Templated

Count = Annotated[StrictInt, Field(ge=0), Templated()]
Positive = Annotated[StrictInt, Field(ge=1), Templated()]
Status = Annotated[Literal["RUNNING", "STOPPED"], Templated()]


class RetryPolicyModel(dg.Model):
    """When a step is attempted again; the arguments of Dagster's `RetryPolicy`."""

    max_retries: Count = optional("How many more attempts; 1 if left out.")
    delay: Annotated[float, Field(ge=0), Templated()] = optional("Seconds before the next attempt.")
    backoff: Annotated[Literal["LINEAR", "EXPONENTIAL"], Templated()] = optional("How the delay grows.")
    jitter: Annotated[Literal["FULL", "PLUS_MINUS"], Templated()] = optional("How the delay is made random.")


class SchedulesModel(dg.Model):
    """The arguments of `build_foundry_schedules`."""

    shared: Annotated[bool, Templated()] = optional(
        "One schedule for all datasets with the same calendar, instead of one for each dataset."
    )
    max_catchup: Count = optional("How many missed partitions of a dataset a tick may request besides the new one.")
    default_status: Status = optional("Whether the schedules are on before somebody switches them.")


class ConditionsModel(dg.Model):
    """The arguments of `foundry_automation_condition` and `build_foundry_automation_sensors`."""

    max_catchup: Count = optional("How many partitions of a dataset may become due in one evaluation.")
    name: Text = optional("The name of the sensor that evaluates the conditions.")
    minimum_interval_seconds: Positive = optional("The seconds between two evaluations.")
    default_status: Status = optional("Whether the sensor is on before somebody switches it.")


class SensorModel(dg.Model):
    """The arguments of `build_foundry_sensor`."""

    name: Text = optional("The sensor's name.")
    lookback: Positive = optional("How many partitions of each dataset it looks at: the newest ones that are due.")
    max_runs: Positive = optional("How many runs of the sensor may be queued or running at a time.")
    minimum_interval_seconds: Positive = optional("The seconds between two evaluations.")
    default_status: Status = optional("Whether the sensor is on before somebody switches it.")


class ChecksModel(dg.Model):
    """The arguments of `build_foundry_checks`."""

    blocking: Annotated[list[Text], Templated(switch=True)] = optional(
        "The names of the checks whose failure keeps downstream assets from being materialized; true for all."
    )
    max_row_change: Annotated[float, Field(ge=0), Templated(nullable=True)] = optional(
        "The largest relative change of the row count that passes, such as 0.5; null leaves the check out."
    )
    freshness_grace: Annotated[Duration, Templated(nullable=True)] = optional(
        "How long after a refresh became available it may be missing, such as '1h'; null leaves the check out."
    )


class FreshnessModel(dg.Model):
    """The arguments of `foundry_freshness_policy`."""

    grace: Duration = optional("How long a run may take after its refresh became available, such as '1h'.")


def to_retry_policy(values: dg.RetryPolicy | Mapping[str, Any] | None) -> dg.RetryPolicy | None:
    """Turn the arguments of `RetryPolicy` into one.

    Raises:
        ValueError: A name is unknown.
    """
    if values is None or isinstance(values, dg.RetryPolicy):
        return values
    arguments = dict(values)
    if "backoff" in arguments:
        arguments["backoff"] = _member(dg.Backoff, arguments["backoff"])
    if "jitter" in arguments:
        arguments["jitter"] = _member(dg.Jitter, arguments["jitter"])
    return dg.RetryPolicy(**arguments)


def to_schedules(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Turn YAML's form of the arguments of `build_foundry_schedules` into Python's."""
    return _with_status(values, dg.DefaultScheduleStatus)


def to_conditions(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Turn YAML's form of the arguments of conditions and their sensors into Python's."""
    return _with_status(values, dg.DefaultSensorStatus)


def to_sensor(values: bool | Mapping[str, Any]) -> bool | Mapping[str, Any]:
    """Turn YAML's form of the arguments of `build_foundry_sensor` into Python's."""
    return values if isinstance(values, bool) else _with_status(values, dg.DefaultSensorStatus)


def to_checks(values: bool | Mapping[str, Any]) -> bool | Mapping[str, Any]:
    """Turn YAML's form of the arguments of `build_foundry_checks` into Python's."""
    if isinstance(values, bool) or values.get("freshness_grace") is None:
        return values
    return {**values, "freshness_grace": to_timedelta(values["freshness_grace"])}


def to_freshness(values: bool | Mapping[str, Any] | None) -> bool | Mapping[str, Any] | None:
    """Turn YAML's form of the arguments of `foundry_freshness_policy` into Python's.

    Raises:
        ValueError: The grace is shorter than a minute, or no duration.
    """
    if not isinstance(values, Mapping) or values.get("grace") is None:
        return values
    grace = to_timedelta(values["grace"])
    if grace < timedelta(minutes=1):
        raise ValueError(f"grace={grace!r} is not allowed; give a minute or more")
    return {"grace": grace}


def _with_status(values: Mapping[str, Any], statuses: type[Any]) -> Mapping[str, Any]:
    status = values.get("default_status")
    return values if status is None else {**values, "default_status": _member(statuses, status)}


def _member(kind: type[Any], name: object) -> Any:
    if isinstance(name, kind):
        return name
    if name not in kind.__members__:
        raise ValueError(f"{name!r} is not allowed; give one of {', '.join(kind.__members__)}")
    return kind[name]
