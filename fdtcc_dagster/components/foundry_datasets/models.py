"""Models of a component's YAML, with the names of Python's arguments.

The models are made from the signatures and docstrings of Python's classes and functions. Their JSON schema, which
`dg check yaml` and editors use, checks names, types and formats; Python checks the rest when the YAML is loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import BaseModel, Field, StrictInt, create_model

from fdtcc_dagster.automation import (
    build_foundry_automation_sensors,
    foundry_automation_condition,
    foundry_freshness_policy,
)
from fdtcc_dagster.calendar.schedule import Refresh, Schedule
from fdtcc_dagster.checks.partition_checks import build_foundry_checks
from fdtcc_dagster.components.foundry_datasets.sharing import shared
from fdtcc_dagster.components.foundry_datasets.signatures import FORMS, arguments_of, made_by, model_of, signature_of
from fdtcc_dagster.components.foundry_datasets.yaml_types import as_it_is, typed, yaml_of
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.datasets_toml import datasets_from_toml
from fdtcc_dagster.io_manager import FoundryParquetIOManager
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.schedules import build_foundry_schedules
from fdtcc_dagster.sensors import build_foundry_sensor

PARTITIONS_DEFS: dict[str, type[dg.TimeWindowPartitionsDefinition]] = {
    "hourly": dg.HourlyPartitionsDefinition,
    "daily": dg.DailyPartitionsDefinition,
    "weekly": dg.WeeklyPartitionsDefinition,
    "monthly": dg.MonthlyPartitionsDefinition,
    "time_window": dg.TimeWindowPartitionsDefinition,
}
"""`type` in YAML → Dagster's class."""
_NOT_WITH_CRON = {"minute_offset", "hour_offset", "day_offset"}


def to_partitions_def(values: Mapping[str, Any]) -> dg.TimeWindowPartitionsDefinition:
    """Turn `{"type": "daily", "start_date": …}` into Dagster's definition, or raise a ValueError."""
    settings = dict(values)
    kind = settings.pop("type", None)
    if kind not in PARTITIONS_DEFS:
        raise ValueError(f"type={kind!r} is not allowed; give one of {', '.join(PARTITIONS_DEFS)}")
    known = signature_of(PARTITIONS_DEFS[kind]).keys()
    unknown = settings.keys() - (known - _NOT_WITH_CRON if kind == "time_window" else known)
    if unknown:
        raise ValueError(f"{kind} partitions have no {', '.join(sorted(unknown))}")
    missing = ({"start", "cron_schedule"} if kind == "time_window" else {"start_date"}) - settings.keys()
    if missing:
        raise ValueError(f"{kind} partitions need {', '.join(sorted(missing))}")
    if kind == "time_window":
        settings.setdefault("fmt", "%Y-%m-%d")
    definition: dg.TimeWindowPartitionsDefinition = made_by(PARTITIONS_DEFS[kind])(settings)
    return definition


def _options(name: str, *functions: Callable[..., Any], others: tuple[type, ...] = (NoneType,)) -> Any:
    """The YAML type of the options of functions that make definitions."""
    return typed(model_of(name, *functions), arguments_of(*functions), *others)


def _resource(kind: type[BaseModel]) -> Any:
    """The YAML type of a Dagster resource."""
    fields: dict[str, Any] = {
        name: (
            typed(field.rebuild_annotation()),
            Field(default_factory=NoneType, alias=field.alias, description=field.description),
        )
        for name, field in kind.model_fields.items()
    }
    model = create_model(kind.__name__, __base__=dg.Model, __doc__=inspect.getdoc(kind), **fields)
    return typed(model, shared(kind), NoneType)


_refresh: Any = typed(model_of("RefreshModel", Refresh), Refresh.init_by_object)
FORMS["refreshs"] = (Annotated[list[_refresh], Field(min_length=1)], as_it_is)
FORMS[Schedule] = (model_of("ScheduleModel", Schedule), made_by(Schedule))
FORMS[dg.TimeWindowPartitionsDefinition] = (
    model_of("PartitionsDefModel", *PARTITIONS_DEFS.values(), type=typed(Literal[tuple(PARTITIONS_DEFS)])),
    to_partitions_def,
)
_settings_model = model_of("SettingsModel", FoundryDataset, without="name")
_settings: Any = typed(_settings_model, arguments_of(FoundryDataset))
FORMS["overrides"] = (
    dict[str, _settings],
    lambda overrides: {name: yaml_of(_settings).python(own) for name, own in overrides.items()},
)

TEXT = typed(str, as_it_is, NoneType)
NUMBER = typed(StrictInt, as_it_is, NoneType)
DATASET: Any = typed(model_of("DatasetModel", FoundryDataset), made_by(FoundryDataset))
DATASETS = typed(list[DATASET])
TOML: Any = typed(
    model_of("TomlModel", datasets_from_toml, base=_settings_model), arguments_of(datasets_from_toml, FoundryDataset)
)
TOMLS = typed(list[TOML])
RESOURCE = _resource(FoundryContainerResource)
IO_MANAGER = _resource(FoundryParquetIOManager)
RETRY_POLICY = typed(model_of("RetryPolicyModel", dg.RetryPolicy), made_by(dg.RetryPolicy), NoneType)
AUTOMATION = typed(Literal["schedule", "condition"], as_it_is, NoneType)
SCHEDULES = _options("SchedulesModel", build_foundry_schedules)
CONDITIONS = _options("ConditionsModel", foundry_automation_condition, build_foundry_automation_sensors)
SENSOR = _options("SensorModel", build_foundry_sensor, others=(bool,))
CHECKS = _options("ChecksModel", build_foundry_checks, others=(bool,))
FRESHNESS = _options("FreshnessModel", foundry_freshness_policy, others=(bool, NoneType))
TRANSLATION = typed(dg.AssetAttributesModel, as_it_is, NoneType)
