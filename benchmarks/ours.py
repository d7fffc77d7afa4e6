"""What is measured: the product, as its users run it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.data import SCHEMA
from benchmarks.job import Work
from fdtcc_dagster import FoundryContainerResource, FoundryDataset, FoundryParquetIOManager, build_foundry_assets

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def store_partitions(
    dataset: FoundryDataset, keys: Sequence[str], resource: FoundryContainerResource, base_dir: str
) -> Work:
    """Materialize partitions of a dataset through its asset and IO manager, in one run in this process.

    This is the one place that says what "pull and store" is.

    Args:
        dataset: The dataset.
        keys: Its partitions: one, or a contiguous range.
        resource: The container.
        base_dir: The IO manager's directory.

    Returns:
        What is to be measured.
    """
    assets = build_foundry_assets([dataset], retry_policy=None)
    resources = {"foundry_container": resource, "io_manager": FoundryParquetIOManager(base_dir=base_dir)}
    one = len(keys) == 1
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    instance = dg.DagsterInstance.ephemeral(tempfile.mkdtemp(dir=base_dir))

    def work() -> dict[str, Any]:
        dg.materialize(
            assets,
            resources=resources,
            instance=instance,
            partition_key=keys[0] if one else None,
            tags=None if one else tags,
            run_config=_QUIET,
        )
        return {"paths": [str(Path(base_dir, dataset.name, f"{key}.parquet")) for key in keys]}

    return work


def store(port: int, dataset: str, key: str, base_dir: str, spool: str, typed: bool, transport: str = "csv") -> Work:
    """Pull and store one snapshot."""
    declared = FoundryDataset(
        dataset,
        partitions_def=dg.DailyPartitionsDefinition("2025-01-01"),
        schema=SCHEMA if typed else None,
    )
    resource = FoundryContainerResource(host="127.0.0.1", port=port, spool_directory=spool, transport=transport)
    return store_partitions(declared, [key], resource, base_dir)
