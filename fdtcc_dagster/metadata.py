"""What Dagster records of a stored snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.client import Snapshot
from fdtcc_dagster.client.snapshot import Announcement
from fdtcc_dagster.metadata_keys import (
    ANNOUNCED_ROWS,
    COLUMN_COUNT,
    COLUMN_SCHEMA,
    ORIGIN,
    OUTSIDE_WINDOW,
    PULL_SECONDS,
    ROWS_COUNTED,
    SHA256,
    SIZE_BYTES,
    SLICE_ROWS,
    SNAPSHOT_ROWS,
    UNCHANGED,
    WINDOW_FROM,
    WINDOW_TO,
)
from fdtcc_dagster.pandas_csv.schema import dtype_name
from fdtcc_dagster.redaction import redact
from fdtcc_dagster.window import Window

_MOST_COLUMN_CHARACTERS = 500_000


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
