"""Palantir Foundry datasets as time-partitioned Dagster assets, through the Foundry DevTools Container."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dagster_shared.libraries import DagsterLibraryRegistry

if TYPE_CHECKING:
    from fdtcc_dagster.assets import build_foundry_assets
    from fdtcc_dagster.calendar.partition_mapping import RefreshPartitionMapping
    from fdtcc_dagster.calendar.schedule import Refresh, Schedule
    from fdtcc_dagster.checks.file_checks import build_foundry_file_checks
    from fdtcc_dagster.checks.partition_checks import build_foundry_checks
    from fdtcc_dagster.client import FDTCC, FoundryDevToolsContainerClient, Snapshot
    from fdtcc_dagster.components import FoundryDatasetsComponent
    from fdtcc_dagster.dataset import FoundryDataset
    from fdtcc_dagster.datasets_toml import datasets_from_toml
    from fdtcc_dagster.definitions import build_foundry_definitions
    from fdtcc_dagster.errors import (
        ChecksumMismatchError,
        DatasetNotFoundError,
        DatasetRetrievalError,
        EmptyDatasetError,
        FdtccError,
        IdleTimeoutError,
        NotYetAvailableError,
        NoVersionInWindowError,
        ProtocolError,
        RowCountMismatchError,
        ScheduleError,
        SchemaMismatchError,
        ServiceConnectionLostError,
        ServiceUnavailableError,
        SliceOutgrownError,
    )
    from fdtcc_dagster.io_manager import FoundryParquetIOManager
    from fdtcc_dagster.resource import FoundryContainerResource
    from fdtcc_dagster.schedules import build_foundry_schedules
    from fdtcc_dagster.sensors import build_foundry_sensor
    from fdtcc_dagster.translator import FoundryDatasetTranslator

__all__ = [
    "FDTCC",
    "ChecksumMismatchError",
    "DatasetNotFoundError",
    "DatasetRetrievalError",
    "EmptyDatasetError",
    "FdtccError",
    "FoundryContainerResource",
    "FoundryDataset",
    "FoundryDatasetTranslator",
    "FoundryDatasetsComponent",
    "FoundryDevToolsContainerClient",
    "FoundryParquetIOManager",
    "IdleTimeoutError",
    "NoVersionInWindowError",
    "NotYetAvailableError",
    "ProtocolError",
    "Refresh",
    "RefreshPartitionMapping",
    "RowCountMismatchError",
    "Schedule",
    "ScheduleError",
    "SchemaMismatchError",
    "ServiceConnectionLostError",
    "ServiceUnavailableError",
    "SliceOutgrownError",
    "Snapshot",
    "build_foundry_assets",
    "build_foundry_checks",
    "build_foundry_definitions",
    "build_foundry_file_checks",
    "build_foundry_schedules",
    "build_foundry_sensor",
    "datasets_from_toml",
]

__version__ = version("fdtcc-dagster")

_MODULE_OF = {
    "build_foundry_assets": "assets",
    "RefreshPartitionMapping": "calendar.partition_mapping",
    "Refresh": "calendar.schedule",
    "Schedule": "calendar.schedule",
    "build_foundry_file_checks": "checks.file_checks",
    "build_foundry_checks": "checks.partition_checks",
    "FDTCC": "client",
    "FoundryDevToolsContainerClient": "client",
    "Snapshot": "client",
    "FoundryDataset": "dataset",
    "datasets_from_toml": "datasets_toml",
    "build_foundry_definitions": "definitions",
    "ChecksumMismatchError": "errors",
    "DatasetNotFoundError": "errors",
    "DatasetRetrievalError": "errors",
    "EmptyDatasetError": "errors",
    "FdtccError": "errors",
    "IdleTimeoutError": "errors",
    "NotYetAvailableError": "errors",
    "NoVersionInWindowError": "errors",
    "ProtocolError": "errors",
    "RowCountMismatchError": "errors",
    "ScheduleError": "errors",
    "SchemaMismatchError": "errors",
    "ServiceConnectionLostError": "errors",
    "ServiceUnavailableError": "errors",
    "SliceOutgrownError": "errors",
    "FoundryContainerResource": "resource",
    "build_foundry_schedules": "schedules",
    "build_foundry_sensor": "sensors",
    "FoundryDatasetTranslator": "translator",
    "FoundryDatasetsComponent": "components",
    "FoundryParquetIOManager": "io_manager",
}
"""Public name → its module, imported when a name is used: Dagster and Polars take a second, which `fdtcc` can save."""


if not TYPE_CHECKING:  # a type checker would take every name for one of the package

    def __getattr__(name: str) -> Any:
        if name in _MODULE_OF:
            globals()[name] = value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
            return value
        if name in {module.partition(".")[0] for module in _MODULE_OF.values()}:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


DagsterLibraryRegistry.register("fdtcc-dagster", __version__, is_dagster_package=False)
