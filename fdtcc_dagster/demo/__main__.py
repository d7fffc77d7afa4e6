"""`python -m fdtcc_dagster.demo`: materialize some partitions of each dataset, and print them."""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Sequence
from datetime import datetime, timezone

import dagster as dg
import polars as pl

from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.demo.container import demo_home, prepare_versions
from fdtcc_dagster.demo.datasets import available_refreshes, is_live, was_missed
from fdtcc_dagster.demo.definitions import datasets, slices
from fdtcc_dagster.demo.runs import PartitionRun, materialize, read_back, use_demo_instance
from fdtcc_dagster.errors import NoVersionInWindowError
from fdtcc_dagster.metadata import ORIGIN, ROW_COUNT, SHA256, SIZE_BYTES, UNCHANGED

_PAST_PARTITIONS = 4
_WIDTH = 100
_COLUMNS = "  {:<10}  {:<36}  {:<7}  {:>7}  {:>10}  {}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 if everything is as it should be, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m fdtcc_dagster.demo", description=__doc__)
    parser.add_argument("--prepare", action="store_true", help="only prepare what `dagster dev` is to find")
    options = parser.parse_args(arguments)
    use_demo_instance()
    started = time.monotonic()
    try:
        prepare_versions()
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"A Foundry container without Foundry, prepared in {demo_home()} ({time.monotonic() - started:.1f} s).")
    if options.prepare:
        return 0
    with dg.DagsterInstance.get() as instance:
        wrong = _materialize_and_show(instance)
    print("\nThe partition of flights that failed on purpose is one that nobody pulled in time: it is never")
    print("filled with today's data. The others are files, such as:")
    print(f"  {demo_home() / 'dagster' / 'storage' / 'flights'}/<partition>.parquet")
    print(f"{time.monotonic() - started:.0f} s in all. The same assets in Dagster's UI: make dev")
    for complaint in wrong:
        print(f"UNEXPECTED: {complaint}", file=sys.stderr)
    return 1 if wrong else 0


def partitions_to_show(dataset: FoundryDataset, now: datetime) -> list[tuple[str, str | None]]:
    """Choose partitions, oldest first: those that nobody pulled, and the newest others.

    Returns:
        Each key with the origin that its rows must have: `"cached"`, `"fetched"` for the last one while it may be
        pulled, or None if nobody pulled it in time, so that there are no rows.
    """
    *past, current = available_refreshes(dataset, now)
    current_key = current.date().isoformat()
    missed = {refresh.date().isoformat(): was_missed(dataset, refresh) for refresh in past}
    missed.pop(current_key, None)  # a date with two refreshes is one partition
    pulled = [key for key, was in missed.items() if not was][-_PAST_PARTITIONS:]
    chosen = [(key, None if was else "cached") for key, was in missed.items() if was or key in pulled]
    over = None if was_missed(dataset, current) else "cached"
    return [*chosen, (current_key, "fetched" if is_live(dataset, current, now) else over)]


def _materialize_and_show(instance: dg.DagsterInstance) -> list[str]:
    """Run all partitions, print them, and return what was not as promised."""
    wrong = []
    newest: list[PartitionRun] = []
    now = datetime.now(timezone.utc)
    for dataset in datasets:
        _print_heading(dataset)
        for partition_key, origin in partitions_to_show(dataset, now):
            (run,) = materialize(dataset, [partition_key], instance)
            _print_run(run, on_purpose=origin is None)
            wrong += _complaints(run, origin)
        if run.error is None:
            newest.append(run)
    wrong += _show_slices(instance, now)
    for run in newest:
        rows = read_back(run, instance)
        _print_head(run, rows)
        stored = rows.select(pl.len()).collect().item()
        if stored != run.metadata[ROW_COUNT]:
            wrong.append(f"{run.dataset.name}, partition {run.partition_key}: {stored} rows were read back")
    return wrong


def _show_slices(instance: dg.DagsterInstance, now: datetime) -> list[str]:
    """Backfill the newest weeks of `flights` from one snapshot, print them, and return what was not as promised."""
    _print_heading(slices, name="flights_by_week")
    newest = available_refreshes(slices, now)[-_PAST_PARTITIONS:-1]
    runs = materialize(slices, [refresh.date().isoformat() for refresh in newest], instance)
    for run in runs:
        _print_run(run)
    pulls = {run.metadata.get(SHA256) for run in runs}
    failed = [f"slice {run.partition_key}: {run.error}" for run in runs if run.error is not None]
    return failed + ([] if len(pulls) == 1 else [f"the slices were cut from {len(pulls)} snapshots, not from one"])


def _complaints(run: PartitionRun, origin: str | None) -> list[str]:
    """How a run differs from what the demo promises: rows of this origin, or none at all."""
    seen = run.metadata[ORIGIN] if run.error is None else ": ".join(run.error)
    if origin is None:
        expected = NoVersionInWindowError.__name__
        as_expected = run.error is not None and run.error[0] == expected
    else:
        expected, as_expected = origin, seen == origin
    where = f"{run.dataset.name}, partition {run.partition_key}"
    return [] if as_expected else [f"{where}: expected {expected}, seen {seen}"]


def _print_heading(dataset: FoundryDataset, name: str | None = None) -> None:
    """Print what a table of partitions is about, and its head."""
    print(f"\n{textwrap.fill(f'{name or dataset.name}: {dataset.description}', _WIDTH)}")
    print(_COLUMNS.format("partition", "window (UTC)", "origin", "rows", "CSV bytes", "SHA-256"))


def _print_run(run: PartitionRun, *, on_purpose: bool = False) -> None:
    """Print a partition's line, or what it failed with, which may be what the demo shows."""
    window = f"{_utc(run.window.from_dt)} to {_utc(run.window.to_dt)}"
    if run.error is None:
        rows = f"{run.metadata[ROW_COUNT]:,}"
        # What is stored already is not downloaded again.
        size = "unchanged" if UNCHANGED in run.metadata else f"{run.metadata[SIZE_BYTES]:,}"
        sha256 = f"{run.metadata[SHA256][:12]}…"
        print(_COLUMNS.format(run.partition_key, window, run.metadata[ORIGIN], rows, size, sha256))
        return
    print(_COLUMNS.format(run.partition_key, window, "failed", "-", "-", "on purpose" if on_purpose else ""))
    indent = " " * 14
    print(textwrap.fill(": ".join(run.error), _WIDTH, initial_indent=indent, subsequent_indent=indent))


def _print_head(run: PartitionRun, rows: pl.LazyFrame) -> None:
    """Print the first rows of a partition that was read back."""
    print(f"\n{run.dataset.name}, partition {run.partition_key}, read back from Parquet:")
    with pl.Config(tbl_cols=6, tbl_width_chars=_WIDTH, tbl_hide_dataframe_shape=True):
        print(rows.head(3).collect())


def _utc(instant: datetime) -> str:
    return f"{instant.astimezone(timezone.utc):%Y-%m-%d %H:%M}"


if __name__ == "__main__":
    sys.exit(main())
