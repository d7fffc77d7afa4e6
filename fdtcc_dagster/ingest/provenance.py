"""The provenance of stored partitions, and whether they need and may be replaced."""

from __future__ import annotations

from fdtcc_dagster.client.snapshot import Announcement
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import dataset_digest, declaration_of, is_of_another
from fdtcc_dagster.errors import SliceOutgrownError
from fdtcc_dagster.ingest.materializations import Materializations
from fdtcc_dagster.ingest.run_log import in_rows
from fdtcc_dagster.ingest.slices import Slices
from fdtcc_dagster.metadata import (
    DATASET,
    DECLARATION,
    NAMESPACE,
    SHA256,
    SLICE,
    SLICE_ROWS,
    SNAPSHOT_ROWS,
    TYPES,
    WINDOW_FROM,
    WINDOW_TO,
)
from fdtcc_dagster.storing import StoredPartition

_OR_NONE = ", or none"
"""The end of SLICE's value if rows without a time are left out."""


def provenance_of(dataset: FoundryDataset, key: str, announcement: Announcement) -> dict[str, str]:
    """The provenance that is stored with a partition; see `is_same`."""
    provenance = {
        SHA256: announcement.sha256,
        TYPES: "inferred" if dataset.schema is None else "declared",
        DECLARATION: declaration_of(dataset).digest,
        DATASET: dataset_digest(dataset),
    }
    if dataset.time is not None:
        provenance[SLICE] = f"{_rows_of_slice(dataset, key)}{_OR_NONE if dataset.time.allow_nulls else ''}"
    return provenance


def is_same(dataset: FoundryDataset, key: str, stored: StoredPartition, announcement: Announcement) -> bool:
    """Tell whether a stored partition is what would be stored from a snapshot, so that it need not be stored again."""
    if dataset.schema is not None and stored.schema != dataset.schema:
        return False
    ours = {name: value for name, value in stored.provenance.items() if name.startswith(NAMESPACE)}
    snapshot_rows = ours.pop(SNAPSHOT_ROWS, None)
    # Exactly: a slice must not count as the whole snapshot.
    if ours != provenance_of(dataset, key, announcement):
        return False
    return announcement.announced_rows in (None, int(snapshot_rows or stored.rows))


def slice_rows_before(
    dataset: FoundryDataset, key: str, stored: StoredPartition | None, materializations: Materializations
) -> int | None:
    """The number of rows of the same slice that are stored: of the same dataset, time column and window.

    If the store cannot tell what is stored, or where it comes from, the last materialization decides.
    """
    if stored is not None and SHA256 in stored.provenance:
        is_same_slice = stored.provenance.get(SLICE, "").removesuffix(_OR_NONE) == _rows_of_slice(dataset, key)
        is_same_dataset = stored.provenance.get(DATASET, dataset_digest(dataset)) == dataset_digest(dataset)
        return stored.rows if is_same_slice and is_same_dataset else None
    if key not in materializations.stored or is_of_another(dataset, materializations.value(key, DECLARATION)):
        return None
    window = dataset.window(key)
    recorded = [materializations.value(key, name) for name in (WINDOW_FROM, WINDOW_TO)]
    rows = materializations.value(key, SLICE_ROWS)
    is_same_window = recorded == [window.from_dt.timestamp(), window.to_dt.timestamp()]
    return rows if is_same_window and isinstance(rows, int) else None


def check_slice(dataset: FoundryDataset, key: str, slices: Slices, before: int | None, *, refetch: bool) -> None:
    """Check that a slice may be stored: rows that the dataset no longer has must not look like rows that never existed.

    Raises:
        SliceOutgrownError: The window begins before the snapshot, and the dataset has no `complete_history`; or the
            slice would replace one of more rows.
    """
    assert dataset.time is not None  # noqa: S101  checked by the caller
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
        rows = in_rows(slices.counts[key])
        raise SliceOutgrownError(
            f"{where}: the snapshot has {rows} of this window, but {before:,} were stored before. "
            "Nothing was replaced, so rows that were deleted or got a later time in Foundry are kept. To accept fewer, "
            "materialize the partition with refetch: true in the run's configuration",
            dataset=dataset.name,
            window=window,
        )


def _rows_of_slice(dataset: FoundryDataset, key: str) -> str:
    assert dataset.time is not None  # noqa: S101  checked by the caller
    return f"{dataset.time.name} in {dataset.window(key)}, dates in {dataset.time.timezone}"
