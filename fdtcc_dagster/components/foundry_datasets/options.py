"""The YAML form of what is made of datasets: retries, automation, a sensor, checks and freshness.

The models' fields are arguments of the functions that make them, and the functions say in detail what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationInfo, field_validator

from fdtcc_dagster.components.foundry_datasets.building import to_timedelta
from fdtcc_dagster.components.foundry_datasets.calendar_models import Duration, Text, optional, refused
from fdtcc_dagster.components.foundry_datasets.templates import Templated, is_template

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
    redeclared: Annotated[bool, Templated()] = optional(
        "Whether stored partitions that do not fit the declaration are requested again, once for each declaration."
    )
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


AUTOMATION_OF = {"schedules": "schedule", "conditions": "condition"}
"""Attribute with options → the automation that they are of."""


def check_options(name: str, options: object, automation: object) -> None:
    """Refuse the options of an automation that is off.

    Args:
        name: The attribute, of `AUTOMATION_OF`.
        options: Its value; None if it is not given.
        automation: The automation that is on.

    Raises:
        ValueError: They are of another one.
    """
    if options is not None and automation != AUTOMATION_OF[name]:
        raise ValueError(_only_with(name, automation))


def with_options_checked(model: type[BaseModel]) -> type[BaseModel]:
    """Refuse the options of an automation that is off in a component's model, at their line."""

    def check(value: object, info: ValidationInfo) -> object:
        automation = info.data.get("automation", "{{ refused itself }}")
        if not (is_template(value) or is_template(automation)):
            check_options(str(info.field_name), value, automation)
        return value

    # JSON schema cannot see the default: "schedule" if the automation is left out.
    off: dict[str, list[object]] = {"schedules": ["condition", None], "conditions": ["schedule", None]}
    rules: list[Any] = [
        {
            "if": {"properties": {"automation": {"const": automation}}, **required},
            "then": {"properties": {name: {"if": {"type": "object"}, "then": refused(_only_with(name, automation))}}},
        }
        for name, automations in off.items()
        for automation in automations
        for required in [{} if automation == "schedule" else {"required": ["automation"]}]
    ]
    extra = model.model_config.get("json_schema_extra")
    return type(
        model.__name__,
        (model,),
        {
            "__doc__": model.__doc__,
            "__module__": model.__module__,
            "model_config": ConfigDict(
                json_schema_extra={**(extra if isinstance(extra, dict) else {}), "allOf": rules}
            ),
            "_check_options": field_validator(*AUTOMATION_OF)(check),
        },
    )


def _only_with(name: str, automation: object) -> str:
    return f"{name}: goes with 'automation: {AUTOMATION_OF[name]}' only, which is {automation!r}"


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
