"""What Dagster records of a stored snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.client import Snapshot, Window
from fdtcc_dagster.client.redaction import redact
from fdtcc_dagster.client.schema import dtype_name
from fdtcc_dagster.client.snapshot import Announcement

FILE_CHECKSUM = "foundry/file_checksum"
"""The checksum of a partition's file; see `fdtcc_dagster.checksums`."""


def column_schema(schema: Mapping[str, Any]) -> dg.TableSchema:
    """Write a Polars schema as Dagster shows it.

    Args:
        schema: Column → Polars data type.

    Returns:
        The table schema, columns in the same order. A RID or uuid in a name is not shown.
    """
    return dg.TableSchema(
        columns=[dg.TableColumn(name=redact(name), type=dtype_name(dtype)) for name, dtype in schema.items()]
    )


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
        come; and the column schema where Dagster expects it.
    """
    metadata = _metadata(snapshot, schema, snapshot.window, unchanged)
    if snapshot.is_outside:
        metadata["foundry/outside_window"] = dg.MetadataValue.bool(value=True)
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
    """Describe a slice.

    Args:
        snapshot: The verified snapshot that it was cut from, or its announcement if the slice is stored already.
        schema: The types of its rows.
        window: The slice's own window.
        rows: How many rows it has.
        snapshot_rows: How many rows the snapshot has.
        unchanged: Whether the slice was stored already, and not stored again.

    Returns:
        Metadata as of the snapshot, but with the slice's window, and both numbers of rows.
    """
    metadata = _metadata(snapshot, schema, window, unchanged)
    metadata["foundry/slice_rows"] = dg.MetadataValue.int(rows)
    metadata["foundry/snapshot_rows"] = dg.MetadataValue.int(snapshot_rows)
    return metadata


def _metadata(
    snapshot: Announcement, schema: pl.Schema, window: Window, unchanged: bool
) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        "foundry/window_from": dg.MetadataValue.timestamp(window.from_dt),
        "foundry/window_to": dg.MetadataValue.timestamp(window.to_dt),
        "foundry/origin": dg.MetadataValue.text(snapshot.origin),
        "foundry/sha256": dg.MetadataValue.text(snapshot.sha256),
        "foundry/pull_seconds": dg.MetadataValue.float(round(snapshot.seconds, 3)),
        "dagster/column_schema": dg.MetadataValue.table_schema(column_schema(schema)),
    }
    if isinstance(snapshot, Snapshot):
        metadata["foundry/size_bytes"] = dg.MetadataValue.int(snapshot.size_bytes)
    if unchanged:
        metadata["foundry/unchanged"] = dg.MetadataValue.bool(value=True)
    metadata["foundry/rows_counted"] = dg.MetadataValue.bool(snapshot.announced_rows is not None)
    if snapshot.announced_rows is not None:
        metadata["foundry/announced_rows"] = dg.MetadataValue.int(snapshot.announced_rows)
    return metadata
