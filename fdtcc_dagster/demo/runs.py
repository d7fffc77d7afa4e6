"""The demo's own Dagster instance, which `make demo` and `make dev` share, and its runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.demo.container import demo_home
from fdtcc_dagster.demo.definitions import defs
from fdtcc_dagster.metadata import range_tags, values_of
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
    """The result of a run, for one of its partitions.

    Attributes:
        dataset: The dataset.
        partition_key: The partition.
        window: The requested window.
        metadata: The values of the materialization's metadata by name, empty if the partition failed.
        error: The name of the error's class and its message, or None if the partition was materialized.
    """

    dataset: FoundryDataset
    partition_key: str
    window: Window
    metadata: Mapping[str, Any]
    error: tuple[str, str] | None


def use_demo_instance() -> None:
    """Make the demo's instance that of this process and its children; its settings send nothing to anybody."""
    home = demo_home() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(_SETTINGS, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home)


def materialize(dataset: FoundryDataset, keys: Sequence[str], instance: dg.DagsterInstance) -> list[PartitionRun]:
    """Materialize partitions in one run, as a backfill does, and return what it recorded, also if it failed."""
    several = len(keys) > 1
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dataset.asset_key or dg.AssetKey(dataset.name)],
        partition_key=None if several else keys[0],
        tags=range_tags(keys[0], keys[-1]) if several else None,
        instance=instance,
        run_config=_QUIET,
        raise_on_error=False,
    )
    recorded = {
        event.materialization.partition: values_of(event.materialization)
        for event in result.get_asset_materialization_events()
    }
    failures = [event.step_failure_data.error for event in result.get_step_failure_events()]
    error = None if result.success else _root(failures[0] if failures else None)
    return [
        PartitionRun(dataset, key, dataset.window(key), recorded.get(key, {}), None if key in recorded else error)
        for key in keys
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
