"""A code location for whole runs by Dagster's command line."""

import os

import dagster as dg

from benchmarks.data import SCHEMA
from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    build_foundry_definitions,
)

defs = build_foundry_definitions(
    [FoundryDataset("parts", partitions_def=dg.DailyPartitionsDefinition("2025-01-01"), schema=SCHEMA)],
    resource=FoundryContainerResource(
        host="127.0.0.1",
        port=int(os.environ["FDTCC_BENCHMARK_PORT"]),
        spool_directory=os.environ["FDTCC_BENCHMARK_DIRECTORY"],
    ),
    io_manager=FoundryParquetIOManager(base_dir=os.environ["FDTCC_BENCHMARK_DIRECTORY"]),
)
