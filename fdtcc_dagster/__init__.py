"""Palantir Foundry datasets as time-partitioned Dagster assets, through the Foundry DevTools Container."""

from fdtcc_dagster.assets import build_foundry_assets
from fdtcc_dagster.client import FDTCC, FoundryDevToolsContainerClient, Snapshot
from fdtcc_dagster.client.errors import (
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
)
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.definitions import build_foundry_definitions
from fdtcc_dagster.io_manager import FoundryParquetIOManager
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.schedule import Refresh, Schedule
from fdtcc_dagster.schedules import build_foundry_schedules
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
    "FoundryDevToolsContainerClient",
    "FoundryParquetIOManager",
    "IdleTimeoutError",
    "NoVersionInWindowError",
    "NotYetAvailableError",
    "ProtocolError",
    "Refresh",
    "RowCountMismatchError",
    "Schedule",
    "ScheduleError",
    "SchemaMismatchError",
    "ServiceConnectionLostError",
    "ServiceUnavailableError",
    "Snapshot",
    "build_foundry_assets",
    "build_foundry_definitions",
    "build_foundry_schedules",
]
