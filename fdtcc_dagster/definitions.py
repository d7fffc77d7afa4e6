"""Everything for a list of datasets at once."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from fdtcc_dagster.assets import build_foundry_assets
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.io_manager import FoundryParquetIOManager
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.schedules import build_foundry_schedules
from fdtcc_dagster.translator import FoundryDatasetTranslator

IO_MANAGER_KEY = "foundry_io_manager"


def build_foundry_definitions(
    datasets: Sequence[FoundryDataset],
    *,
    resource: FoundryContainerResource,
    io_manager: dg.ConfigurableIOManager | dg.IOManagerDefinition | None = None,
    translator: FoundryDatasetTranslator | None = None,
) -> dg.Definitions:
    """Make complete definitions of datasets: an asset and a schedule for each, and their resources.

    Args:
        datasets: The datasets.
        resource: The container, which becomes the resource `foundry_container`.
        io_manager: Stores the partitions, as the resource `foundry_io_manager`; by default a `FoundryParquetIOManager`
            in the storage directory of the Dagster instance.
        translator: Gives the assets' keys, groups, tags and so on.

    Returns:
        The definitions, to be used as they are or merged with others by `dg.Definitions.merge`.

    Raises:
        ValueError: Two datasets have the same asset key.
    """
    return dg.Definitions(
        assets=build_foundry_assets(datasets, translator=translator, io_manager_key=IO_MANAGER_KEY),
        schedules=build_foundry_schedules(datasets, translator=translator),
        resources={
            "foundry_container": resource,
            IO_MANAGER_KEY: io_manager if io_manager is not None else FoundryParquetIOManager(),
        },
    )
