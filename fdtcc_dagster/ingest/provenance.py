"""What a partition's rows are: a snapshot's, or those of its window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import polars as pl

from fdtcc_dagster.background import interruptibly
from fdtcc_dagster.client.snapshot import Announcement
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import DATASET, DECLARATION, dataset_digest, declaration_of, is_of_another
from fdtcc_dagster.errors import NotYetAvailableError
from fdtcc_dagster.evidence import Evidence
from fdtcc_dagster.ingest.materializations import History
from fdtcc_dagster.ingest.outgrown import check_slice
from fdtcc_dagster.ingest.run_log import PullLog
from fdtcc_dagster.ingest.slices import cut
from fdtcc_dagster.interrupts import stop_scans
from fdtcc_dagster.metadata import slice_metadata, snapshot_metadata
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.storing import StoredPartition
from fdtcc_dagster.window import Window

SNAPSHOT_ROWS = "foundry/snapshot_rows"
"""Where a stored slice says how many rows its snapshot has."""

_SHA256, _SLICE = "foundry/sha256", "foundry/slice"
"""Where a stored partition says of which snapshot it is, and a slice, which rows it has."""

_OR_NONE = ", or none"
"""What the latter ends with if rows without a time are left out."""

_OPEN_END = timedelta(days=366)
"""Any later version will do, so the window ends after the last attempt, however long a run waits and also where the
container's clock is ahead: an attempt must find the version that an earlier one has caused."""

Rows = tuple[pl.LazyFrame, dict[str, dg.MetadataValue], str]
"""The rows of a partition, what is known of them, and their data version."""


def rows_of(
    dataset: FoundryDataset,
    key: str,
    container: FoundryContainerResource,
    spool: Path,
    log: dg.DagsterLogManager,
    evidence: Evidence,
    history: History,
    *,
    refetch: bool,
) -> Rows:
    """Pull one partition, for whatever stores LazyFrames.

    Args:
        dataset: The dataset.
        key: The partition key.
        container: The resource.
        spool: Where the snapshot is put; its file is read whenever the rows are.
        log: The run's log.
        evidence: Where it is kept what is known of the dataset's snapshots.
        history: What was recorded of the asset.
        refetch: Whether a slice may replace one of more rows.

    Returns:
        Its rows, metadata and data version.

    Raises:
        FdtccError: There is no snapshot of its window, it is not as declared, or it has outgrown the slice.
    """
    for error in not_complete(dataset, [key]).values():
        raise error
    window = request_window(dataset, [key])
    log.info(f"Pulling {dataset.name!r}, window {window}")
    told = PullLog(log)
    try:
        snapshot = container.pull(
            dataset.name,
            window,
            directory=spool,
            on_message=told.message,
            on_progress=told.progress,
            on_notice=told.notice,
            missing_version=dataset.missing_version,
            evidence=evidence,
        )
    finally:
        told.end()
    if dataset.time is None:
        rows = snapshot.scan(dataset.schema)
        return rows, snapshot_metadata(snapshot, rows.collect_schema()), snapshot.sha256
    time, windows = dataset.time, {key: dataset.window(key)}
    slices = interruptibly(lambda: cut(snapshot.source, dataset.schema, time, windows, spool), stop_scans)
    before = slice_rows_before(dataset, key, None, history)
    check_slice(dataset, key, slices, before, refetch=refetch)
    log.info(f"Cut {slices.counts[key]:,} rows{in_place_of(before)} from a snapshot of {slices.rows:,}")
    metadata = slice_metadata(snapshot, slices.schema, windows[key], slices.counts[key], slices.rows)
    return slices.rows_of(key), metadata, snapshot.sha256


def request_window(dataset: FoundryDataset, keys: Sequence[str]) -> Window:
    """The window in which the container must have pulled a snapshot that has the rows of some partitions.

    Args:
        dataset: The dataset.
        keys: One partition key, or those of several slices that are complete.

    Returns:
        The partition's own window; for slices the time since the newest one was complete, with an open end.
    """
    if dataset.time is None:
        (key,) = keys
        return dataset.window(key)
    return Window(max(dataset.complete_at(key) for key in keys), now_in_utc() + _OPEN_END)


def not_complete(dataset: FoundryDataset, keys: Sequence[str]) -> dict[str, Exception]:
    """Give an error for each slice that is not complete yet.

    Args:
        dataset: The dataset.
        keys: The partition keys.

    Returns:
        Partition key → an error that says when it will be; nothing where partitions are no slices.
    """
    if dataset.time is None:
        return {}
    now = now_in_utc()
    complete_at = {key: dataset.complete_at(key) for key in keys}
    return {
        key: NotYetAvailableError(
            f"dataset {dataset.name!r}: the slice {key}, window {dataset.window(key)}, is complete at "
            f"{instant.isoformat()}, and it is {now.isoformat()}; try again then",
            dataset=dataset.name,
            window=dataset.window(key),
            available_at=instant,
        )
        for key, instant in complete_at.items()
        if instant > now
    }


def provenance_of(dataset: FoundryDataset, key: str, announcement: Announcement) -> dict[str, str]:
    """What a stored partition says of its origin; where it says the same, it need not be stored again.

    Args:
        dataset: The dataset.
        key: The partition key.
        announcement: The snapshot that its rows are of.

    Returns:
        Names under `foundry/` and their values.
    """
    provenance = {
        _SHA256: announcement.sha256,
        "foundry/types": "inferred" if dataset.schema is None else "declared",
        DECLARATION: declaration_of(dataset).digest,
        DATASET: dataset_digest(dataset),
    }
    if dataset.time is not None:
        provenance[_SLICE] = f"{_rows_of_slice(dataset, key)}{_OR_NONE if dataset.time.allow_nulls else ''}"
    return provenance


def _rows_of_slice(dataset: FoundryDataset, key: str) -> str:
    assert dataset.time is not None  # noqa: S101  told by the caller
    return f"{dataset.time.name} in {dataset.window(key)}, dates in {dataset.time.timezone}"


def is_same(dataset: FoundryDataset, key: str, stored: StoredPartition, announcement: Announcement) -> bool:
    """Say whether a stored partition is what would be stored of a snapshot.

    Args:
        dataset: The dataset.
        key: The partition key.
        stored: What is stored.
        announcement: The snapshot.
    """
    if dataset.schema is not None and stored.schema != dataset.schema:
        return False
    said = {name: value for name, value in stored.provenance.items() if name.startswith("foundry/")}
    snapshot_rows = said.pop(SNAPSHOT_ROWS, None)
    # Not less: a slice must not pass for the whole.
    if said != provenance_of(dataset, key, announcement):
        return False
    return announcement.announced_rows in (None, int(snapshot_rows or stored.rows))


def slice_rows_before(
    dataset: FoundryDataset, key: str, stored: StoredPartition | None, history: History
) -> int | None:
    """Say how many rows of the same slice are there already.

    Args:
        dataset: The dataset, whose partitions are slices.
        key: The partition key.
        stored: What is stored; where nobody can tell, or its origin is not known, the last materialization decides.
        history: What was recorded of the asset.

    Returns:
        The rows; None if there are none, or they are those of another dataset, time column or window.
    """
    if stored is not None and _SHA256 in stored.provenance:
        is_same_slice = stored.provenance.get(_SLICE, "").removesuffix(_OR_NONE) == _rows_of_slice(dataset, key)
        is_same_dataset = stored.provenance.get(DATASET, dataset_digest(dataset)) == dataset_digest(dataset)
        return stored.rows if is_same_slice and is_same_dataset else None
    if key not in history.stored or is_of_another(dataset, history.value(key, DECLARATION)):
        return None
    window = dataset.window(key)
    recorded = [history.value(key, name) for name in ("foundry/window_from", "foundry/window_to")]
    rows = history.value(key, "foundry/slice_rows")
    is_same_window = recorded == [window.from_dt.timestamp(), window.to_dt.timestamp()]
    return rows if is_same_window and isinstance(rows, int) else None


def in_place_of(before: int | None) -> str:
    """What the run's log says of rows that are replaced."""
    return "" if before is None else f" in place of {before:,}"


def now_in_utc() -> datetime:
    """The current instant."""
    return datetime.now(timezone.utc)
