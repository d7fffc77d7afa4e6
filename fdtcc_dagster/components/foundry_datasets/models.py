"""The YAML form of datasets, with the names of Python's arguments: what `dg check yaml` and an editor know about it."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, create_model, model_validator

from fdtcc_dagster.components.foundry_datasets.building import to_dataset
from fdtcc_dagster.components.foundry_datasets.calendar_models import (
    Date,
    Names,
    PartitionsDefModel,
    ScheduleModel,
    Text,
    optional,
    refused,
)
from fdtcc_dagster.components.foundry_datasets.templates import Templated, has_template, to_plain, unless_template
from fdtcc_dagster.io_manager import FoundryParquetIOManager
from fdtcc_dagster.pandas_csv.schema import to_dtype
from fdtcc_dagster.resource import FoundryContainerResource

_DTYPE = (
    r"^(Int8|Int16|Int32|Int64|UInt8|UInt16|UInt32|UInt64|Float32|Float64|Boolean|String|Utf8|Date|Time|Categorical"
    r"|Datetime(\(.*\))?|Decimal\(.*\)|Enum\(.*\))$"
)


def _dtypes(schema: dict[str, str]) -> dict[str, str]:
    for column, dtype in schema.items():
        if not has_template(dtype):
            to_dtype(column, dtype)
    return schema


OptionalText = Annotated[str, Templated(nullable=True)]


class SettingsModel(dg.Model):
    """What may be said about a dataset besides its name; the arguments of `FoundryDataset`."""

    schedule: Annotated[ScheduleModel, Templated(nullable=True)] = optional(
        "The calendar of its refreshes; each date with a refresh becomes a partition.",
    )
    start: Annotated[Date, Templated(nullable=True)] = optional(
        "With a schedule: the first date that may be a partition key.", examples=["2026-01-01"]
    )
    schema_: Annotated[
        dict[str, str],
        Field(min_length=1),
        AfterValidator(_dtypes),
        WithJsonSchema(
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": unless_template({"type": "string", "pattern": _DTYPE}),
            }
        ),
        Templated(nullable=True),
    ] = optional(
        "Column → Polars data type; types are inferred if left out.",
        alias="schema",
        examples=[{"id": "Int64", "amount": "Decimal(12, 2)", "ordered_at": "Datetime(us, UTC)"}],
    )
    partitions_def: Annotated[PartitionsDefModel, Templated(nullable=True)] = optional(
        "Instead of a schedule: partitions whose own windows are pulled.",
    )
    missing_version: Annotated[Literal["raise", "accept"], Templated()] = optional(
        "For a past window in which nobody pulled the dataset: fail, or store today's data knowingly.",
    )
    time_column: OptionalText = optional(
        "The column that makes a partition a slice: the rows whose times are in the partition's window.",
        examples=["updated_at"],
    )
    allow_null_times: Annotated[bool, Templated()] = optional(
        "With a time_column: leave rows without a time out of all slices, instead of failing."
    )
    complete_history: Annotated[bool, Templated()] = optional(
        "With a time_column: the dataset keeps all its rows, so a slice may begin before its earliest time."
    )
    asset_key: Annotated[
        str | list[str] | None,
        WithJsonSchema(
            {"type": ["string", "array", "null"], "items": {"type": "string"}, "minItems": 1, "minLength": 1}
        ),
    ] = optional("The asset's key, with slashes between its parts; by default made of the name.")
    description: OptionalText = optional("The asset's description.")
    group_name: OptionalText = optional("The asset's group.")
    owners: Names = optional("The asset's owners, e-mail addresses or 'team:…'.")
    tags: Annotated[dict[str, Text], Templated(nullable=True)] = optional("The asset's tags.")

    @property
    def schema(self) -> dict[str, str]:  # type: ignore[override]
        """What YAML has at `schema`: Dagster takes the names of YAML for those of attributes."""
        return self.schema_


def _complete(schema: dict[str, Any]) -> None:
    schema["if"] = {"required": ["partitions_def"]}
    schema["then"] = {
        "properties": {name: refused("there is a partitions_def already") for name in ("schedule", "start")}
    }
    schema["else"] = {"required": ["schedule", "start"]}


class DatasetModel(SettingsModel):
    """A Foundry dataset: its name, its partitions, and how it appears in Dagster."""

    model_config = ConfigDict(json_schema_extra=_complete)

    name: Annotated[str, Field(min_length=1), Templated()] = Field(
        description="The dataset's name, as the container knows it.", examples=["foundry.sales.orders"]
    )

    @model_validator(mode="after")
    def _check(self) -> DatasetModel:
        values = to_plain(self)
        if not has_template(values):
            to_dataset(values)
        return self


class TomlModel(SettingsModel):
    """The datasets that a container knows, from its own file; their ids are not read."""

    path: Text = Field(
        description="The container's foundry_datasets.toml, relative to this YAML file.",
        examples=["foundry_datasets.toml"],
    )
    select: Names = optional("Names, or patterns such as 'foundry.hr.*'; by default all.")
    exclude: Names = optional("Names or patterns of datasets to leave out.")
    overrides: Annotated[dict[str, Annotated[SettingsModel, Templated()]], Templated()] = optional(
        "Name → settings that only this dataset has, each instead of the shared one."
    )


def _model_of(resource: type[BaseModel]) -> type[dg.Model]:
    """A model with the fields of a resource."""
    fields: dict[str, Any] = {
        field.alias or name: (
            Annotated[field.rebuild_annotation(), Templated()],
            optional(field.description or ""),
        )
        for name, field in resource.model_fields.items()
    }
    return create_model(resource.__name__, __base__=dg.Model, __doc__=inspect.getdoc(resource), **fields)


ResourceModel = _model_of(FoundryContainerResource)
IOManagerModel = _model_of(FoundryParquetIOManager)
