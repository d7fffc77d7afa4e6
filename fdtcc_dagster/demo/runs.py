"""The demo's own Dagster instance, which `make demo` and `make dev` share, and its runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.demo.container import demo_home
from fdtcc_dagster.demo.definitions import defs
from fdtcc_dagster.metadata import range_tags
from fdtcc_dagster.window import Window

# Dagster's own account of the run is in the instance, for the UI; on the console it would bury the table.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_SETTINGS = """\
# Written by the demo. Runs, events and the Parquet files of this instance are in this directory.
telemetry:
  enabled: false
nux:
  enabled: false
"""


@dataclass(frozen=True)
class PartitionRun:
    """The result of a run of one partition.

    Attributes:
        dataset: The dataset.
        partition_key: The partition.
        window: The requested window.
        metadata: The materialization's metadata by name, empty if the run failed.
        error: The name of the error's class and its message, or None if the run succeeded.
    """

    dataset: FoundryDataset
    partition_key: str
    window: Window
    metadata: Mapping[str, Any]
    error: tuple[str, str] | None


def use_demo_instance() -> Path:
    """Make the demo's instance that of this process and its children; its settings send nothing to anybody.

    Returns:
        Its directory, `dagster` in the demo's.
    """
    home = demo_home() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(_SETTINGS, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def materialize(dataset: FoundryDataset, partition_key: str, instance: dg.DagsterInstance) -> PartitionRun:
    """Materialize a partition in a run of its own, and return what the run recorded, also if it failed."""
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey(dataset.name)],
        partition_key=partition_key,
        instance=instance,
        run_config=_QUIET,
        raise_on_error=False,
    )
    metadata: Mapping[str, Any] = {}
    for event in result.get_asset_materialization_events():
        recorded = event.materialization.metadata
        metadata = {**metadata, **{name: value.value for name, value in recorded.items()}}
    failures = [event.step_failure_data.error for event in result.get_step_failure_events()]
    error = None if result.success else _root(failures[0] if failures else None)
    return PartitionRun(dataset, partition_key, dataset.window(partition_key), metadata, error)


def materialize_slices(
    dataset: FoundryDataset, partition_keys: Sequence[str], instance: dg.DagsterInstance
) -> list[PartitionRun]:
    """Materialize several partitions of the demo's slices in one run, as a backfill does; return what it recorded."""
    assert dataset.asset_key is not None  # noqa: S101  the demo's slices have one
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dataset.asset_key],
        tags=range_tags(partition_keys[0], partition_keys[-1]),
        instance=instance,
        run_config=_QUIET,
        raise_on_error=False,
    )
    recorded = {
        event.materialization.partition: {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
    }
    failures = [event.step_failure_data.error for event in result.get_step_failure_events()]
    error = None if result.success else _root(failures[0] if failures else None)
    return [
        PartitionRun(dataset, key, dataset.window(key), recorded.get(key, {}), None if key in recorded else error)
        for key in partition_keys
    ]


def read_back(run: PartitionRun, instance: dg.DagsterInstance) -> pl.LazyFrame:
    """Read a partition from its Parquet file, as a downstream asset would."""
    logging.disable(logging.INFO)  # there is no run here whose console could be made quiet
    try:
        rows = defs.load_asset_value(
            dg.AssetKey(run.dataset.name), python_type=pl.LazyFrame, instance=instance, partition_key=run.partition_key
        )
    finally:
        logging.disable(logging.NOTSET)
    assert isinstance(rows, pl.LazyFrame)  # noqa: S101  the IO manager gives what python_type asks for
    return rows


def _root(error: Any) -> tuple[str, str]:
    if error is None:
        return "unknown error", "the run failed before its step; see it in the UI (make dev)"
    while error.cause is not None:
        error = error.cause
    return error.cls_name or "", error.message.strip().partition(": ")[2]
