"""Writes a `defs.yaml` to begin with, for `dg scaffold defs`."""

from __future__ import annotations

import datetime as dt
from typing import Any

import dagster as dg
from pydantic import BaseModel, Field

from fdtcc_dagster.resource import FoundryContainerResource

_DEFAULTS = FoundryContainerResource.model_fields


class FoundryDatasetsScaffolderParams(BaseModel):
    """The options of the command line: `--host`, `--port`, and so on."""

    host: str = Field(default=_DEFAULTS["host"].default, description="The container's host.")
    port: int = Field(default=_DEFAULTS["port"].default, description="The container's port.")
    dataset: str = Field(default="my_dataset", description="The name of a first dataset, as the container knows it.")
    start: dt.date | None = Field(
        default=None, description="The day of the oldest partitions, YYYY-MM-DD; by default the first of this year."
    )
    toml: str | None = Field(
        default=None, description="Instead of one dataset: the container's foundry_datasets.toml, relative to the YAML."
    )


class FoundryDatasetsScaffolder(dg.Scaffolder[FoundryDatasetsScaffolderParams]):
    """Writes a `defs.yaml` that can be loaded as it is."""

    @classmethod
    def get_scaffold_params(cls) -> type[FoundryDatasetsScaffolderParams]:
        """The model of the parameters."""
        return FoundryDatasetsScaffolderParams

    def scaffold(self, request: dg.ScaffoldRequest[FoundryDatasetsScaffolderParams]) -> None:
        """Write the file that Dagster requests."""
        params = request.params
        start = params.start or dt.datetime.now(dt.timezone.utc).date().replace(month=1, day=1)
        settings: dict[str, Any] = {
            "start": start.isoformat(),
            "schedule": {
                "refreshs": [{"cycle": "weekly", "day": "Monday", "time": "12:00:00"}],
                "buffer": "2h",
                "timezone": "UTC",
            },
        }
        datasets = (
            {"datasets": [{"name": params.dataset, **settings}]}
            if params.toml is None
            else {"from_toml": [{"path": params.toml, **settings}]}
        )
        dg.scaffold_component(request, {"resource": {"host": params.host, "port": params.port}, **datasets})
