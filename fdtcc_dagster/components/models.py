"""Models of a component's YAML, with the names of Python's arguments.

The models are made from the signatures and docstrings of Python's classes and functions. Their JSON schema, which
`dg check yaml` and editors use, checks names, types and formats; Python checks the rest when the YAML is loaded.
"""

from __future__ import annotations

import datetime as dt
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import dagster as dg
from pydantic import BaseModel, BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, create_model

from fdtcc_dagster.arguments import check_asset_key_argument
from fdtcc_dagster.automation import (
    build_foundry_automation_sensors,
    foundry_automation_condition,
    foundry_freshness_policy,
)
from fdtcc_dagster.calendar.schedule import CYCLES, Refresh, Schedule
from fdtcc_dagster.calendar.timezones import zone_of
from fdtcc_dagster.checks.partition_checks import build_foundry_checks
from fdtcc_dagster.components import yaml_types
from fdtcc_dagster.components.resources import shared
from fdtcc_dagster.components.yaml_types import Known, as_it_is, only_json, typed, yaml_of
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.datasets_toml import datasets_from_toml
from fdtcc_dagster.errors import did_you_mean
from fdtcc_dagster.io_manager import FoundryParquetIOManager
from fdtcc_dagster.pandas_csv.schema import refuse_divided, to_schema
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.schedules import build_foundry_schedules
from fdtcc_dagster.sensors import build_foundry_sensor

_ONLY_PYTHON = {"dataset", "datasets", "translator", "clock", "schedule_type"}
_COUNT = (Annotated[StrictInt, Field(ge=0)], as_it_is)
_POSITIVE = (Annotated[StrictInt, Field(ge=1)], as_it_is)
_NOT_NEGATIVE = (Annotated[StrictFloat, Field(ge=0)], float)


def _undivided(schema: Any) -> Any:
    if isinstance(schema, dict):
        refuse_divided(schema)
    return schema


def _checked_asset_key(value: Any) -> Any:
    check_asset_key_argument(value)
    return value


FORMS: dict[object, tuple[Any, Callable[[Any], Any]]] = {
    int: (StrictInt, as_it_is),
    float: (StrictFloat, float),
    bool: (StrictBool, as_it_is),
    dt.date: (yaml_types.DATE, yaml_types.to_date),
    dt.timedelta: (yaml_types.DURATION, yaml_types.to_timedelta),
    Sequence: (list[str], as_it_is),
    Collection: (list[str], as_it_is),
    "name": (Annotated[str, Field(min_length=1)], as_it_is),
    "cycle": (Literal[CYCLES], as_it_is),
    "day": (only_json(type=["integer", "string"]), as_it_is),
    "time": (yaml_types.TIME, as_it_is),
    "timezone": (str, lambda name: str(zone_of(name))),
    "schema": (Annotated[dict[str, str], Field(min_length=1), BeforeValidator(_undivided)], to_schema),
    "asset_key": (only_json(type=["string", "array"], items={"type": "string"}), _checked_asset_key),
    "max_catchup": _COUNT,
    "max_retries": _COUNT,
    "lookback": _POSITIVE,
    "max_runs": _POSITIVE,
    "minimum_interval_seconds": _POSITIVE,
    "delay": _NOT_NEGATIVE,
    "max_row_change": _NOT_NEGATIVE,
    "grace": (yaml_types.DURATION, yaml_types.to_grace),
}
"""Type or name of an argument → its type in YAML, if that differs, and a function that builds Python's object."""


def model_of(
    name: str, *functions: Callable[..., Any], base: type[dg.Model] = Known, without: str = "", **more: Any
) -> type[dg.Model]:
    """Make a model of the arguments of functions or classes; an argument that not all of them have is optional."""
    signatures = [signature_of(function) for function in functions]
    # The underscores, because `schema` is an attribute of all models.
    fields: dict[str, Any] = {f"{name}_": (kind, Field(alias=name)) for name, kind in more.items()}
    for function, signature in zip(functions, signatures, strict=True):
        descriptions = descriptions_of(function)
        for argument in signature.values():
            form = _form_of(argument)
            needed = argument.default is argument.empty and NoneType not in yaml_of(form).others
            needed = needed and all(argument.name in other for other in signatures)
            default: dict[str, Any] = {} if needed else {"default_factory": NoneType}
            field = Field(**default, alias=argument.name, description=descriptions.get(argument.name))
            if argument.name != without:
                fields.setdefault(f"{argument.name}_", (form, field))
    return create_model(name, __base__=base, __doc__=(functions[0].__doc__ or "").partition("\n")[0], **fields)


def arguments_of(*functions: Callable[..., Any]) -> Callable[[Any], dict[str, Any]]:
    """Make a function that converts the YAML form of functions' arguments into Python's."""
    forms = {name: _form_of(argument) for function in functions for name, argument in signature_of(function).items()}

    def arguments(values: Any) -> dict[str, Any]:
        if not isinstance(values, Mapping):
            raise ValueError(f"{values!r} must be a mapping of arguments")
        return {name: yaml_of(forms[name]).python(value) if name in forms else value for name, value in values.items()}

    return arguments


def made_by(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """Make a function that calls another one with arguments in their YAML form."""
    arguments = arguments_of(function)
    return lambda values: function(**arguments(values))


def signature_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments of a function that YAML can give."""
    return {
        name: argument
        for name, argument in inspect.signature(function, eval_str=True).parameters.items()
        if argument.kind is not argument.VAR_KEYWORD and name not in _ONLY_PYTHON
    }


def _form_of(argument: inspect.Parameter) -> Any:
    """The YAML type of an argument, annotated by `Yaml`."""
    hint = argument.annotation
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    others = tuple(option for option in options if option is NoneType or (option is bool and len(options) > 1))
    kinds = [option for option in options if option not in others]
    kind = str if str in kinds and dt.date not in kinds else kinds[0]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return yaml_types.member_of(kind, *others)
    found = (FORMS.get(key) for key in (argument.name, kind, get_origin(kind)))
    form, build = next(filter(None, found), (kind, as_it_is))
    return typed(form, build, *others)


def descriptions_of(function: Callable[..., Any]) -> dict[str, str]:
    """The descriptions of the arguments, from the docstring of a function, or of a class and its constructor."""
    text = f"{inspect.getdoc(function)}\n{inspect.getdoc(function.__init__)}"
    found = re.finditer(r"^ {4}(\w+)(?: \(.*\))?:\s+(.+(?:\n {8}.+)*)", text, re.MULTILINE)
    return {match[1]: " ".join(match[2].split()) for match in found}


PARTITIONS_DEFS: dict[str, type[dg.TimeWindowPartitionsDefinition]] = {
    "hourly": dg.HourlyPartitionsDefinition,
    "daily": dg.DailyPartitionsDefinition,
    "weekly": dg.WeeklyPartitionsDefinition,
    "monthly": dg.MonthlyPartitionsDefinition,
    "time_window": dg.TimeWindowPartitionsDefinition,
}
"""`type` in YAML → Dagster's class."""
EXECUTORS = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}
"""Name in YAML → Dagster's executor; a template gives any other."""
_NOT_WITH_CRON = {"minute_offset", "hour_offset", "day_offset"}


def to_partitions_def(values: Mapping[str, Any]) -> dg.TimeWindowPartitionsDefinition:
    """Turn `{"type": "daily", "start_date": …}` into Dagster's definition, or raise a ValueError."""
    if not isinstance(values, Mapping):
        raise ValueError(f"partitions_def={values!r} is no mapping such as {{type: daily, start_date: 2026-01-31}}")
    settings = dict(values)
    kind = settings.pop("type", None)
    if kind not in PARTITIONS_DEFS:
        raise ValueError(
            f"type={kind!r} is not allowed; give one of {', '.join(PARTITIONS_DEFS)}"
            f"{did_you_mean(kind, PARTITIONS_DEFS)}"
        )
    known = signature_of(PARTITIONS_DEFS[kind]).keys() - (_NOT_WITH_CRON if kind == "time_window" else set[str]())
    unknown = settings.keys() - known
    if unknown:
        raise ValueError(
            f"{kind} partitions have no {', '.join(sorted(unknown))}; allowed are {', '.join(sorted(known))}"
            f"{did_you_mean(sorted(unknown)[0], known)}"
        )
    missing = ({"start", "cron_schedule"} if kind == "time_window" else {"start_date"}) - settings.keys()
    if missing:
        raise ValueError(f"{kind} partitions need {', '.join(sorted(missing))}")
    if kind == "time_window":
        settings.setdefault("fmt", "%Y-%m-%d")
    definition: dg.TimeWindowPartitionsDefinition = made_by(PARTITIONS_DEFS[kind])(settings)
    return definition


def to_executor(name: object) -> dg.ExecutorDefinition:
    """Turn the name of an executor into Dagster's definition, or raise a ValueError."""
    if name not in EXECUTORS:
        raise ValueError(f"{name!r} is not allowed; give {', '.join(EXECUTORS)}, or a template that gives an executor")
    return EXECUTORS[str(name)]


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
    model = create_model(kind.__name__, __base__=Known, __doc__=inspect.getdoc(kind), **fields)
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
NUMBER = typed(*_POSITIVE, NoneType)
DATASET: Any = typed(model_of("DatasetModel", FoundryDataset), made_by(FoundryDataset))
DATASETS = typed(list[DATASET])
TOML: Any = typed(
    model_of("TomlModel", datasets_from_toml, base=_settings_model), arguments_of(datasets_from_toml, FoundryDataset)
)
TOMLS = typed(list[TOML])
RESOURCE = _resource(FoundryContainerResource)
IO_MANAGER = _resource(FoundryParquetIOManager)
RETRY_POLICY = typed(model_of("RetryPolicyModel", dg.RetryPolicy), made_by(dg.RetryPolicy), NoneType)
EXECUTOR = typed(Literal[tuple(EXECUTORS)], to_executor, NoneType)
AUTOMATION = typed(Literal["schedule", "condition"], as_it_is, NoneType)
SCHEDULES = _options("SchedulesModel", build_foundry_schedules)
CONDITIONS = _options("ConditionsModel", foundry_automation_condition, build_foundry_automation_sensors)
SENSOR = _options("SensorModel", build_foundry_sensor, others=(bool,))
CHECKS = _options("ChecksModel", build_foundry_checks, others=(bool,))
FRESHNESS = _options("FreshnessModel", foundry_freshness_policy, others=(bool, NoneType))
TRANSLATION = typed(create_model("TranslationModel", __base__=(Known, dg.AssetAttributesModel)), as_it_is, NoneType)
