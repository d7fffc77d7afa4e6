"""Slices that a dataset has outgrown: rows that a snapshot no longer has must not pass for rows that never were."""

from __future__ import annotations

from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.errors import SliceOutgrownError
from fdtcc_dagster.ingest.slices import Slices


def check_slice(dataset: FoundryDataset, key: str, slices: Slices, before: int | None, *, refetch: bool) -> None:
    """Make sure that a slice may be stored.

    Args:
        dataset: The dataset, whose partitions are slices.
        key: The partition key.
        slices: What the snapshot was cut into.
        before: How many rows the stored slice has; None where there is none.
        refetch: Whether the run is told to replace what is stored.

    Raises:
        SliceOutgrownError: The window begins before the snapshot, and the dataset has no `complete_history`; or the
            slice would replace one of more rows.
    """
    assert dataset.time is not None  # noqa: S101  told by the caller
    window = dataset.window(key)
    where = f"dataset {dataset.name!r}, slice {key}, window {window}"
    if key in slices.outgrown and not dataset.time.complete_history:
        seen = (
            "no row of the snapshot has a time"
            if slices.begins is None
            else f"the snapshot begins at {slices.begins} by {dataset.time.name!r}, which is after the window's start"
        )
        raise SliceOutgrownError(
            f"{where}: {seen}: rows that the dataset had in this window may no longer be in it, so nothing was stored. "
            "If the dataset keeps all its rows and just has none from before, set complete_history=True on it; "
            "otherwise leave the partition as it is, or let the partitions start later",
            dataset=dataset.name,
            window=window,
        )
    if before is not None and slices.counts[key] < before and not refetch:
        raise SliceOutgrownError(
            f"{where}: the snapshot has {slices.counts[key]:,} rows of this window, but {before:,} were stored before. "
            "Nothing was replaced, so rows that were deleted or got a later time in Foundry are kept. To accept fewer, "
            "materialize the partition with refetch: true in the run's configuration",
            dataset=dataset.name,
            window=window,
        )
