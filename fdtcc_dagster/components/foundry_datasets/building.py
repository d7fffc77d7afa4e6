"""From plain values, as YAML has them, to the objects of this package.

Every function also takes the object itself, for that is what a template may evaluate to.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

import dagster as dg

from fdtcc_dagster.calendar.schedule import Schedule
from fdtcc_dagster.dataset import FoundryDataset

DURATION = r"^(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"
DURATION_UNITS = ("days", "hours", "minutes", "seconds")

_COMMON = ("timezone", "fmt", "end_offset", "exclusions")
_DATES = ("start_date", "end_date", "minute_offset", *_COMMON)
PARTITIONS_DEFS: dict[str, tuple[type[dg.TimeWindowPartitionsDefinition], tuple[str, ...]]] = {
    "hourly": (dg.HourlyPartitionsDefinition, _DATES),
    "daily": (dg.DailyPartitionsDefinition, (*_DATES, "hour_offset")),
    "weekly": (dg.WeeklyPartitionsDefinition, (*_DATES, "hour_offset", "day_offset")),
    "monthly": (dg.MonthlyPartitionsDefinition, (*_DATES, "hour_offset", "day_offset")),
    "time_window": (dg.TimeWindowPartitionsDefinition, ("start", "end", "cron_schedule", *_COMMON)),
}
"""`type` → Dagster's class, and the arguments of it that YAML knows."""


def to_timedelta(value: object) -> dt.timedelta:
    """Turn `"1h30m"` or `{"hours": 1, "minutes": 30}` into a timedelta.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, dt.timedelta):
        return value
    match = re.match(DURATION, value) if isinstance(value, str) else None
    if match:
        return dt.timedelta(
            **{unit: int(part[:-1]) for unit, part in zip(DURATION_UNITS, match.groups(), strict=True) if part}
        )
    if isinstance(value, Mapping) and value and set(value) <= set(DURATION_UNITS):
        return dt.timedelta(**value)
    raise ValueError(f"{value!r} is no duration; allowed are such as '2h', '1h30m', '45s' or {{minutes: 90}}")


def to_schedule(value: Schedule | Mapping[str, Any]) -> Schedule:
    """Turn the arguments of `Schedule` into one.

    Raises:
        ScheduleError: A value makes no sense.
        ValueError: The buffer is no duration.
    """
    if isinstance(value, Schedule):
        return value
    settings = dict(value)
    if "buffer" in settings:
        settings["buffer"] = to_timedelta(settings["buffer"])
    return Schedule(**settings)


def to_partitions_def(
    value: dg.TimeWindowPartitionsDefinition | Mapping[str, Any],
) -> dg.TimeWindowPartitionsDefinition:
    """Turn `{"type": "daily", "start_date": …}` into Dagster's definition.

    Raises:
        ValueError: A value makes no sense.
    """
    if not isinstance(value, Mapping):
        return value
    settings = dict(value)
    definition, _ = PARTITIONS_DEFS[settings.pop("type")]
    if definition is dg.TimeWindowPartitionsDefinition:
        settings.setdefault("fmt", "%Y-%m-%d")
    try:
        return definition(**settings)
    except (dg.DagsterError, TypeError) as error:
        raise ValueError(str(error)) from error


def to_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn YAML's form of some arguments of `FoundryDataset` into Python's."""
    builders = {"schedule": to_schedule, "partitions_def": to_partitions_def}
    return {
        name: builders[name](value) if name in builders and value is not None else value
        for name, value in values.items()
    }


def to_dataset(value: FoundryDataset | Mapping[str, Any]) -> FoundryDataset:
    """Turn the arguments of `FoundryDataset` into one.

    Raises:
        ScheduleError: A value makes no sense.
        ValueError: A value makes no sense.
    """
    return value if isinstance(value, FoundryDataset) else FoundryDataset(**to_arguments(value))
