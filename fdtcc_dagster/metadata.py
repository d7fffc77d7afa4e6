"""What Dagster records of a stored snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.client import Snapshot, Window
from fdtcc_dagster.client.schema import dtype_name


def column_schema(schema: Mapping[str, Any]) -> dg.TableSchema:
    """Write a Polars schema as Dagster shows it.

    Args:
        schema: Column → Polars data type.

    Returns:
        The table schema, columns in the same order.
    """
    return dg.TableSchema(columns=[dg.TableColumn(name=name, type=dtype_name(dtype)) for name, dtype in schema.items()])


def snapshot_metadata(
    snapshot: Snapshot, schema: pl.Schema, slice_of: Window | None = None
) -> dict[str, dg.MetadataValue]:
    """Describe a snapshot.

    Args:
        snapshot: The verified snapshot.
        schema: The types of its rows.
        slice_of: The window of the slice that was cut from it, or None where the partition is the snapshot.

    Returns:
        Metadata under `foundry/`: the window, the origin, the SHA-256, the CSV's bytes, the seconds that the pull
        took, the announced rows where there are any, and `outside_window` where today's data were taken for a window
        that was over or had not begun; and the column schema where Dagster expects it.
    """
    window = slice_of or snapshot.window
    metadata: dict[str, dg.MetadataValue] = {
        "foundry/window_from": dg.MetadataValue.timestamp(window.from_dt),
        "foundry/window_to": dg.MetadataValue.timestamp(window.to_dt),
        "foundry/origin": dg.MetadataValue.text(snapshot.origin),
        "foundry/sha256": dg.MetadataValue.text(snapshot.sha256),
        "foundry/size_bytes": dg.MetadataValue.int(snapshot.size_bytes),
        "foundry/pull_seconds": dg.MetadataValue.float(round(snapshot.seconds, 3)),
        "dagster/column_schema": dg.MetadataValue.table_schema(column_schema(schema)),
    }
    if snapshot.announced_rows is not None:
        metadata["foundry/announced_rows"] = dg.MetadataValue.int(snapshot.announced_rows)
    if slice_of is None and snapshot.origin == "fetched" and not snapshot.window.contains(snapshot.requested_at):
        metadata["foundry/outside_window"] = dg.MetadataValue.bool(value=True)
    return metadata
