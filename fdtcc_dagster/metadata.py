"""What is recorded of partitions: the names of metadata and tags, each written here only, and the values of metadata.

Stored partitions and event logs have these names for years: one that changes makes what is recorded unreadable. The
page on runs describes those that people see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.client import Snapshot
from fdtcc_dagster.client.snapshot import Announcement
from fdtcc_dagster.pandas_csv.schema import dtype_name
from fdtcc_dagster.redaction import redact
from fdtcc_dagster.window import Window

NAMESPACE = "foundry/"

# Of a stored partition: its materialization.
WINDOW_FROM = "foundry/window_from"
WINDOW_TO = "foundry/window_to"
ORIGIN = "foundry/origin"
SHA256 = "foundry/sha256"
SIZE_BYTES = "foundry/size_bytes"
UNCHANGED = "foundry/unchanged"
ROWS_COUNTED = "foundry/rows_counted"
ANNOUNCED_ROWS = "foundry/announced_rows"
OUTSIDE_WINDOW = "foundry/outside_window"
SLICE_ROWS = "foundry/slice_rows"
SNAPSHOT_ROWS = "foundry/snapshot_rows"
PULL_SECONDS = "foundry/pull_seconds"
STORE_SECONDS = "foundry/store_seconds"
COLUMN_COUNT = "foundry/columns"
FILE_CHECKSUM = "foundry/file_checksum"
DECLARATION = "foundry/declaration"
"""The digest of the declaration and its parts; in a file, the digest alone."""

# Of a stored partition: its file. These, SHA256, SNAPSHOT_ROWS and DECLARATION are its provenance.
DATASET = "foundry/dataset"
"""A digest of the dataset's name."""
SLICE = "foundry/slice"
"""Which rows of the snapshot a slice has."""
TYPES = "foundry/types"

# Of a snapshot: the observations by which every run knows of it; with SHA256, ANNOUNCED_ROWS and WINDOW_FROM.
FOUND_ROWS = "foundry/found_rows"
ANNOUNCED_AT = "foundry/announced_at"
CONTRADICTED = "foundry/contradicted"

# Of a check, or of a run that failed.
CHECKED_PARTITIONS = "foundry/partitions"
FAILED_PARTITIONS = "foundry/failed_partitions"
DIFFERENCES = "foundry/differences"
BEFORE_START_OR_AFTER_END = "foundry/before_start_or_after_end"
FORMER_PARTITIONS = "foundry/former_partitions"
COMPARED_UP_TO = "foundry/compared_up_to"
"""Up to which materialization the check of declarations has come."""
NEWEST_PARTITION = "foundry/newest_partition"
DUE_PARTITION = "foundry/due_partition"
DUE_SINCE = "foundry/due_since"
GRACE = "foundry/grace"
ERROR_CLASS = "foundry/error"

# The tag of a run that a schedule or a sensor has requested.
ASSET_TAG = "foundry/asset"
"""The asset's key: a run key alone names the dataset, not who declares it."""

# Dagster's own.
COLUMN_SCHEMA = "dagster/column_schema"
ROW_COUNT = "dagster/row_count"
PARTITION_ROW_COUNT = "dagster/partition_row_count"

# Dagster's own, of a run: its partitions.
_KEY = "dagster/partition"
_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

_MOST_COLUMN_CHARACTERS = 500_000


def values_of(event: dg.AssetMaterialization | dg.AssetObservation | None) -> dict[str, Any]:
    """The values of an event's metadata by name."""
    return {} if event is None else {name: value.value for name, value in event.metadata.items()}


def column_schema(schema: Mapping[str, Any]) -> dg.TableSchema:
    """Write a Polars schema as Dagster shows it; a RID or uuid in a name is not shown."""
    return dg.TableSchema(
        columns=[dg.TableColumn(name=redact(name), type=dtype_name(dtype)) for name, dtype in schema.items()]
    )


def column_metadata(schema: Mapping[str, Any]) -> dict[str, dg.MetadataValue]:
    """Describe the columns of stored rows, or count them if they are too many for an event.

    Returns:
        `dagster/column_schema`, or `foundry/columns`.
    """
    table = column_schema(schema)
    if sum(len(column.name) + len(column.type) for column in table.columns) > _MOST_COLUMN_CHARACTERS:
        return {COLUMN_COUNT: dg.MetadataValue.int(len(table.columns))}
    return {COLUMN_SCHEMA: dg.MetadataValue.table_schema(table)}


def snapshot_metadata(
    snapshot: Announcement, schema: pl.Schema, *, unchanged: bool = False
) -> dict[str, dg.MetadataValue]:
    """Describe a snapshot.

    Args:
        snapshot: The verified snapshot, or the announcement of one that is stored already.
        schema: The types of its rows.
        unchanged: Whether it was stored already, and neither downloaded nor stored again.

    Returns:
        Metadata under `foundry/`: the window, the origin, the SHA-256, the seconds that the pull took, the CSV's bytes
        where it was downloaded, whether the container counted the rows and the announced rows where it did, and
        `outside_window` where today's data were taken for a window that was over when they were asked for or had
        come; and the columns, see `column_metadata`.
    """
    metadata = _metadata(snapshot, schema, snapshot.window, unchanged)
    if snapshot.is_outside:
        metadata[OUTSIDE_WINDOW] = dg.MetadataValue.bool(value=True)
    return metadata


def slice_metadata(
    snapshot: Announcement,
    schema: pl.Schema,
    window: Window,
    rows: int,
    snapshot_rows: int,
    *,
    unchanged: bool = False,
) -> dict[str, dg.MetadataValue]:
    """Describe a slice: the metadata of its snapshot, but with the slice's window, and both numbers of rows.

    Args:
        snapshot: The verified snapshot that it was cut from, or its announcement if the slice is stored already.
        schema: The types of its rows.
        window: The slice's own window.
        rows: How many rows it has.
        snapshot_rows: How many rows the snapshot has.
        unchanged: Whether the slice was stored already, and not stored again.
    """
    metadata = _metadata(snapshot, schema, window, unchanged)
    metadata[SLICE_ROWS] = dg.MetadataValue.int(rows)
    metadata[SNAPSHOT_ROWS] = dg.MetadataValue.int(snapshot_rows)
    return metadata


def _metadata(
    snapshot: Announcement, schema: pl.Schema, window: Window, unchanged: bool
) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        WINDOW_FROM: dg.MetadataValue.timestamp(window.from_dt),
        WINDOW_TO: dg.MetadataValue.timestamp(window.to_dt),
        ORIGIN: dg.MetadataValue.text(snapshot.origin),
        SHA256: dg.MetadataValue.text(snapshot.sha256),
        PULL_SECONDS: dg.MetadataValue.float(round(snapshot.seconds, 3)),
        **column_metadata(schema),
    }
    if isinstance(snapshot, Snapshot):
        metadata[SIZE_BYTES] = dg.MetadataValue.int(snapshot.size_bytes)
    if unchanged:
        metadata[UNCHANGED] = dg.MetadataValue.bool(value=True)
    metadata[ROWS_COUNTED] = dg.MetadataValue.bool(snapshot.announced_rows is not None)
    if snapshot.announced_rows is not None:
        metadata[ANNOUNCED_ROWS] = dg.MetadataValue.int(snapshot.announced_rows)
    return metadata


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags of a run of several partitions."""
    return {_FIRST: first, _LAST: last}


def first_and_last(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """The first and the last partition key of a run, which may be the same; None if it has none."""
    if (key := tags.get(_KEY)) is not None:  # as in Dagster, it counts more than a range
        return key, key
    first, last = tags.get(_FIRST), tags.get(_LAST)
    return None if first is None or last is None else (first, last)
