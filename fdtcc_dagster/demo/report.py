"""What the demo prints."""

from __future__ import annotations

import textwrap
from datetime import datetime, timezone

import polars as pl

from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.demo.runs import PartitionRun
from fdtcc_dagster.metadata import ORIGIN, PARTITION_ROW_COUNT, SHA256, SIZE_BYTES, UNCHANGED

_COLUMNS = "  {:<10}  {:<36}  {:<7}  {:>7}  {:>10}  {}"


def print_heading(dataset: FoundryDataset, name: str | None = None) -> None:
    """Print what a table of partitions is about, and its head."""
    print(f"\n{name or dataset.name}: {dataset.description}")
    print(_COLUMNS.format("partition", "window (UTC)", "origin", "rows", "CSV bytes", "SHA-256"))


def print_run(run: PartitionRun) -> None:
    """Print a partition's line, or what it failed with."""
    window = f"{_utc(run.window.from_dt)} to {_utc(run.window.to_dt)}"
    if run.error is None:
        rows = f"{run.metadata[PARTITION_ROW_COUNT]:,}"
        # What is stored already is not downloaded again.
        size = "unchanged" if UNCHANGED in run.metadata else f"{run.metadata[SIZE_BYTES]:,}"
        sha256 = run.metadata[SHA256]
        print(_COLUMNS.format(run.partition_key, window, run.metadata[ORIGIN], rows, size, sha256))
        return
    print(_COLUMNS.format(run.partition_key, window, "failed", "-", "-", run.error[0]))
    print(textwrap.fill(run.error[1], 110, initial_indent=" " * 14, subsequent_indent=" " * 14))


def print_head(run: PartitionRun, rows: pl.LazyFrame) -> None:
    """Print the first rows of a partition that was read back."""
    print(f"\n{run.dataset.name}, partition {run.partition_key}, read back from Parquet:")
    with pl.Config(tbl_cols=8, tbl_width_chars=120, tbl_hide_dataframe_shape=True):
        print(rows.head(3).collect())


def _utc(instant: datetime) -> str:
    return f"{instant.astimezone(timezone.utc):%Y-%m-%d %H:%M}"
