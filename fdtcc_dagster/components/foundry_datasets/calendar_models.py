"""The YAML form of calendars and partitions; see `models`.

`dg check yaml` compares YAML with the JSON schema of these models; when YAML is loaded, the models are validated and
say whatever Python would say. So a JSON schema here says as much as it can, and in a way that an error points at the
line and names what is allowed.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import AfterValidator, ConfigDict, Field, StrictInt, StrictStr, WithJsonSchema, model_validator

from fdtcc_dagster.calendar.schedule import WEEKDAYS, Refresh
from fdtcc_dagster.calendar.timezones import zone_of
from fdtcc_dagster.components.foundry_datasets.building import (
    DURATION,
    DURATION_UNITS,
    PARTITIONS_DEFS,
    to_partitions_def,
    to_schedule,
    to_timedelta,
)
from fdtcc_dagster.components.foundry_datasets.templates import Templated, has_template, to_plain, unless_template

_DATE = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$"
_ANY_CASE = "^(" + "|".join("".join(f"[{c.upper()}{c.lower()}]" for c in day) for day in WEEKDAYS) + ")$"
_WEEKDAY = {"if": {"type": "string", "pattern": _ANY_CASE}, "else": {"enum": list(WEEKDAYS)}}
_DAY = {"type": "integer", "minimum": -31, "maximum": 31, "not": {"const": 0}}


def refused(reason: str) -> dict[str, Any]:
    """A JSON schema of what must not be given; the error is at its line, and ends with the reason."""
    return {"not": {"description": reason}}


def _per_cycle(cycle: str, required: list[str], **allowed: dict[str, Any]) -> dict[str, Any]:
    properties = {name: refused(f"a {cycle} refresh has no {name}") for name in ("day", "month")}
    properties.update({name: unless_template(schema) for name, schema in allowed.items()})
    return {
        "if": {"properties": {"cycle": {"const": cycle}}, "required": ["cycle"]},
        "then": {"required": required, "properties": properties},
    }


def optional(description: str, **options: Any) -> Any:
    """A field that may be left out; then Python's own default counts, and it stays None here."""
    return Field(default_factory=lambda: None, description=description, **options)


def _checked_date(value: str) -> str:
    dt.date.fromisoformat(value)
    return value


def _checked_zone(value: str) -> str:
    zone_of(value)
    return value


def _checked_duration(value: object) -> object:
    to_timedelta(value)
    return value


Text = Annotated[str, Templated()]
Date = Annotated[str, Field(pattern=_DATE), AfterValidator(_checked_date), Templated()]
Zone = Annotated[str, AfterValidator(_checked_zone), Templated()]
Duration = Annotated[
    str | dict[str, float],
    AfterValidator(_checked_duration),
    WithJsonSchema(
        {
            "type": ["string", "object"],
            "pattern": DURATION,
            "minProperties": 1,
            "properties": {unit: {"type": "number", "minimum": 0} for unit in DURATION_UNITS},
            "additionalProperties": False,
        }
    ),
    Templated(),
]
Names = Annotated[list[Text], Templated()]


class RefreshModel(dg.Model):
    """One rule of a calendar, such as "on the last day of every month at 02:00:00"."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                _per_cycle("daily", []),
                _per_cycle("weekly", ["day"], day=_WEEKDAY),
                _per_cycle("monthly", ["day"], day=_DAY),
                _per_cycle("quarterly", ["day"], day=_DAY, month={"type": "integer", "minimum": 1, "maximum": 3}),
                _per_cycle(
                    "yearly", ["day", "month"], day=_DAY, month={"type": "integer", "minimum": 1, "maximum": 12}
                ),
            ]
        }
    )

    cycle: Annotated[Literal["daily", "weekly", "monthly", "quarterly", "yearly"], Templated()] = Field(
        description="How often: daily, weekly, monthly, quarterly or yearly."
    )
    day: Annotated[StrictInt | StrictStr, WithJsonSchema({"type": ["integer", "string"]})] = optional(
        "A weekday for weekly; otherwise the day of the month, 1 to 31, or -1 to -31 from its end.",
        examples=["Monday", 1, -1],
    )
    time: Annotated[
        StrictStr,
        WithJsonSchema(
            {
                "if": {"type": "integer"},
                "then": refused("YAML reads 12:00:00 as a number; put the time of day in quotes"),
                "else": unless_template({"type": "string", "pattern": _TIME}),
            }
        ),
    ] = Field(description="The time of day as 'HH:MM:SS', in quotes, in the schedule's zone.", examples=["02:00:00"])
    month: Annotated[StrictInt, Templated()] = optional(
        "The month within the quarter, 1 (default) to 3, or of the year, 1 to 12.",
    )

    @model_validator(mode="after")
    def _check(self) -> RefreshModel:
        values = to_plain(self)
        if not has_template(values):
            Refresh.init_by_object(values)
        return self


class ScheduleModel(dg.Model):
    """The calendar by which Foundry rebuilds a dataset."""

    refreshs: Annotated[list[Annotated[RefreshModel, Templated()]], Field(min_length=1), Templated()] = Field(
        description="The rules; a date that several of them name is refreshed at each of their times."
    )
    buffer: Duration = optional(
        "How long after a refresh its data may be pulled, as '2h', '1h30m' or {minutes: 90}; 2h if left out.",
        examples=["2h", "1h30m", {"minutes": 90}],
    )
    timezone: Zone = optional("The IANA name of the zone in which the rules are read.")

    @model_validator(mode="after")
    def _check(self) -> ScheduleModel:
        values = to_plain(self)
        if not has_template(values):
            to_schedule(values)
        return self


_ARGUMENTS = {name: None for _, names in PARTITIONS_DEFS.values() for name in names}


class PartitionsDefModel(dg.Model):
    """Partitions whose own windows are pulled, as one of Dagster's definitions."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
                    "then": {
                        "properties": {
                            name: refused(f"{kind} partitions have no {name}")
                            for name in _ARGUMENTS
                            if name not in names
                        },
                        "required": ["start", "cron_schedule"] if kind == "time_window" else ["start_date"],
                    },
                }
                for kind, (_, names) in PARTITIONS_DEFS.items()
            ]
        }
    )

    type: Annotated[Literal["hourly", "daily", "weekly", "monthly", "time_window"], Templated()] = Field(
        description="Which of Dagster's definitions."
    )
    start_date: Text = optional("The first partition, written like a key; not for time_window.")
    end_date: Text = optional("The end of the last partition; not for time_window.")
    start: Text = optional("The first partition, written like a key; for time_window.")
    end: Text = optional("The end of the last partition; for time_window.")
    cron_schedule: Text = optional("The bounds of the windows, as cron; for time_window.")
    timezone: Zone = optional("The IANA name of the zone.")
    fmt: Text = optional("How keys are written, by strftime; '%Y-%m-%d' if left out, and with the time for hourly.")
    end_offset: Annotated[StrictInt, Templated()] = optional(
        "1: the partition in whose window now is exists already, and can be pulled live."
    )
    minute_offset: Annotated[StrictInt, Templated()] = optional("Minute at which windows begin.")
    hour_offset: Annotated[StrictInt, Templated()] = optional("Hour at which windows begin.")
    day_offset: Annotated[StrictInt, Templated()] = optional(
        "Day on which windows begin: of the week, 0 is Sunday; of the month, 1 is the first."
    )
    exclusions: Names = optional("Crons of the windows that are left out.")

    @model_validator(mode="after")
    def _check(self) -> PartitionsDefModel:
        values = to_plain(self)
        if not has_template(values):
            to_partitions_def(values)
        return self
