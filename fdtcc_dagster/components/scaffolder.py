"""Writes a `defs.yaml` to begin with, for `dg scaffold defs`."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator

from fdtcc_dagster.components import models
from fdtcc_dagster.components.yaml_types import to_date
from fdtcc_dagster.resource import FoundryContainerResource

if TYPE_CHECKING:
    from typing_extensions import Self

_DEFAULTS = FoundryContainerResource.model_fields
_Written = create_model(
    "Attributes", resource=(models.RESOURCE, None), datasets=(models.DATASETS, ()), from_toml=(models.TOMLS, ())
)
"""The attributes that are written, checked as when they are loaded."""


class FoundryDatasetsScaffolderParams(BaseModel):
    """The options of the command line: `--host`, `--port`, and so on."""

    # A host may be given as a URL with a password.
    model_config = ConfigDict(hide_input_in_errors=True)

    host: str = Field(default=_DEFAULTS["host"].default, description="The container's host.")
    port: int = Field(default=_DEFAULTS["port"].default, description="The container's port.")
    dataset: str = Field(default="my_dataset", description="The name of a first dataset, as the container knows it.")
    start: dt.date | None = Field(
        default=None, description="The day of the oldest partitions, YYYY-MM-DD; by default the first of this year."
    )
    toml: str | None = Field(
        default=None, description="Instead of one dataset: the container's foundry_datasets.toml, relative to the YAML."
    )

    @field_validator("start", mode="before")
    @classmethod
    def _check_start(cls, start: object) -> object:
        # To pydantic, "5" is the fifth second of 1970.
        return to_date(start) if isinstance(start, str) else start

    @model_validator(mode="after")
    def _can_be_loaded(self) -> Self:
        _Written.model_validate(self.attributes())
        return self

    def attributes(self) -> dict[str, Any]:
        """The attributes of the `defs.yaml`."""
        start = self.start or dt.datetime.now(dt.timezone.utc).date().replace(month=1, day=1)
        settings: dict[str, Any] = {
            "start": start.isoformat(),
            "schedule": {
                "refreshs": [{"cycle": "weekly", "day": "Monday", "time": "12:00:00"}],
                "buffer": "2h",
                "timezone": "UTC",
            },
        }
        datasets = (
            {"datasets": [{"name": self.dataset, **settings}]}
            if self.toml is None
            else {"from_toml": [{"path": self.toml, **settings}]}
        )
        return {"resource": {"host": self.host, "port": self.port}, **datasets}


class FoundryDatasetsScaffolder(dg.Scaffolder[FoundryDatasetsScaffolderParams]):
    """Writes a `defs.yaml` that can be loaded as it is."""

    @classmethod
    def get_scaffold_params(cls) -> type[FoundryDatasetsScaffolderParams]:
        """The model of the parameters."""
        return FoundryDatasetsScaffolderParams

    def scaffold(self, request: dg.ScaffoldRequest[FoundryDatasetsScaffolderParams]) -> None:
        """Write the file that Dagster requests."""
        dg.scaffold_component(request, request.params.attributes())
