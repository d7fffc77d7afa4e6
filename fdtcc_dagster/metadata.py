"""What is recorded of partitions: the names of metadata and tags, each written here only, and the values of metadata.

Stored partitions and event logs have these names for years: one that changes makes what is recorded unreadable. The
page on runs describes those that people see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.client import Snapshot
from fdtcc_dagster.client.snapshot import Announcement
from fdtcc_dagster.pandas_csv.schema import dtype_name
from fdtcc_dagster.redaction import excerpt, redact
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
SNAPSHOT = "foundry/snapshot"
"""Of a slice: the numbers of its pull, as JSON. They are the same for all slices of a pull, so plots say nothing."""
CONVERSATION_SECONDS = "foundry/conversation_seconds"
DOWNLOAD_SECONDS = "foundry/download_seconds"
STORE_SECONDS = "foundry/store_seconds"
COLUMN_COUNT = "foundry/columns"
FILE_CHECKSUM = "foundry/file_checksum"
PREVIEW = "foundry/preview"
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
ROW_CHANGE = "foundry/row_change"
"""The change of the number of rows, relative to the partition before: 0.5 is half as many more."""
CHECKED_PARTITIONS = "foundry/partitions"
FAILED_PARTITIONS = "foundry/failed_partitions"
FAILURES = "foundry/failures"
"""The failed partitions with their errors, as a table."""
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

# Of an asset and its schedule.
REFRESHES = "foundry/refreshes"
"""The calendar in words."""

# Dagster's own.
COLUMN_SCHEMA = "dagster/column_schema"
ROW_COUNT = "dagster/row_count"
PARTITION_ROW_COUNT = "dagster/partition_row_count"
STORED_BYTES = "dagster/size_bytes"
TABLE_NAME = "dagster/table_name"
URI = "dagster/uri"
STORAGE_KIND = "dagster/storage_kind"

# Dagster's own, of a run: its partitions.
_KEY = "dagster/partition"
_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

_MOST_COLUMN_CHARACTERS = 500_000
_CELL, _MOST_COLUMNS = 100, 100
"""How many characters of a value a preview shows, and of how many columns."""
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~&]")
"""What has a meaning in a cell of a table: with images of other servers, or HTML, the UI shows more than text."""

# What a reader of the UI looks for first; what is not named here comes between the two groups.
_FIRST_SHOWN = (
    ROW_COUNT, PARTITION_ROW_COUNT, ORIGIN, UNCHANGED, OUTSIDE_WINDOW, STORED_BYTES, SIZE_BYTES, "path", URI,
    WINDOW_FROM, WINDOW_TO, CONVERSATION_SECONDS, DOWNLOAD_SECONDS, STORE_SECONDS,
    SNAPSHOT, ROWS_COUNTED, ANNOUNCED_ROWS, PREVIEW,
)  # fmt: skip
_LAST_SHOWN = (COLUMN_COUNT, COLUMN_SCHEMA, DECLARATION, SHA256, FILE_CHECKSUM)
_SHOWN = {name: number for number, name in enumerate((*_FIRST_SHOWN, None, *_LAST_SHOWN))}


def values_of(event: dg.AssetMaterialization | dg.AssetObservation | None) -> dict[str, Any]:
    """The values of an event's metadata by name; those of a slice's snapshot have the names of a snapshot's own."""
    values: dict[str, Any] = {} if event is None else {name: value.value for name, value in event.metadata.items()}
    snapshot = values.get(SNAPSHOT)
    of_snapshot = snapshot.items() if isinstance(snapshot, Mapping) else ()
    return {**values, **{f"{NAMESPACE}{name}": value for name, value in of_snapshot}}


def rows_of(values: Mapping[str, Any]) -> int | None:
    """The number of stored rows, under any name that IO managers use for it."""
    # The last is the name that Dagster's own managers of database tables use.
    found = (values.get(name) for name in (PARTITION_ROW_COUNT, ROW_COUNT, "row_count"))
    return next((value for value in found if isinstance(value, int)), None)


def in_order(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Put the metadata of a partition into the order in which the UI shows them."""
    return {name: metadata[name] for name in sorted(metadata, key=lambda name: _SHOWN.get(name, _SHOWN[None]))}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown, whatever characters its cells have."""
    cells = [[_MARKDOWN.sub(r"\\\g<0>", " ".join(cell.split())) for cell in line] for line in (header, *rows)]
    cells.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def preview(first: pl.DataFrame | None) -> dict[str, dg.MetadataValue]:
    """Show the first rows of a partition, if somebody has asked for them; RIDs are not shown."""
    if first is None:
        return {}
    shown, more = first[:, :_MOST_COLUMNS], max(first.width - _MOST_COLUMNS, 0)
    header = [excerpt(redact(name), _CELL) for name in shown.columns] + ([f"and {more:,} more"] if more else [])
    rows = (
        [excerpt(redact("" if value is None else str(value)), _CELL) for value in row] + ([""] if more else [])
        for row in shown.iter_rows()
    )
    return {PREVIEW: dg.MetadataValue.md(markdown_table(header, rows))}


def column_schema(schema: Mapping[str, Any], descriptions: Mapping[str, str] | None = None) -> dg.TableSchema:
    """Write a Polars schema as Dagster shows it; a RID or uuid in a name is not shown."""
    said = descriptions or {}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=redact(name), type=dtype_name(dtype), description=said.get(name))
            for name, dtype in schema.items()
        ]
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
    snapshot: Announcement, schema: pl.Schema, *, size_bytes: int | None = None, unchanged: bool = False
) -> dict[str, dg.MetadataValue]:
    """Describe a snapshot.

    Args:
        snapshot: The verified snapshot, or the announcement of one that is stored already.
        schema: The types of its rows.
        size_bytes: The CSV's bytes, if they are known of an earlier download.
        unchanged: Whether it was stored already, and neither downloaded nor stored again.

    Returns:
        Metadata under `foundry/`: the window, the origin, the SHA-256, the seconds of the conversation and of the
        download, the CSV's bytes where they are known, whether the container counted the rows and the announced rows
        where it did, and `outside_window` where today's data were taken for a window that was over when they were
        asked for or had come; and the columns, see `column_metadata`.
    """
    metadata = _metadata(snapshot, schema, snapshot.window, unchanged)
    if snapshot.is_outside:
        metadata[OUTSIDE_WINDOW] = dg.MetadataValue.bool(value=True)
    return metadata | {
        name: dg.MetadataValue.float(number) if isinstance(number, float) else dg.MetadataValue.int(number)
        for name, number in _numbers(snapshot, size_bytes).items()
    }


def slice_metadata(
    snapshot: Announcement,
    schema: pl.Schema,
    window: Window,
    rows: int,
    snapshot_rows: int,
    *,
    size_bytes: int | None = None,
    unchanged: bool = False,
) -> dict[str, dg.MetadataValue]:
    """Describe a slice: the metadata of its snapshot, but with the slice's window, and the snapshot's numbers in one.

    Args:
        snapshot: The verified snapshot that it was cut from, or its announcement if the slice is stored already.
        schema: The types of its rows.
        window: The slice's own window.
        rows: How many rows it has.
        snapshot_rows: How many rows the snapshot has.
        size_bytes: The CSV's bytes, if they are known of an earlier download.
        unchanged: Whether the slice was stored already, and not stored again.
    """
    numbers = {SLICE_ROWS: rows, SNAPSHOT_ROWS: snapshot_rows, **_numbers(snapshot, size_bytes)}
    metadata = _metadata(snapshot, schema, window, unchanged)
    metadata[SNAPSHOT] = dg.MetadataValue.json({name.removeprefix(NAMESPACE): n for name, n in numbers.items()})
    return metadata


def _metadata(
    snapshot: Announcement, schema: pl.Schema, window: Window, unchanged: bool
) -> dict[str, dg.MetadataValue]:
    return {
        WINDOW_FROM: dg.MetadataValue.timestamp(window.from_dt),
        WINDOW_TO: dg.MetadataValue.timestamp(window.to_dt),
        ORIGIN: dg.MetadataValue.text(snapshot.origin),
        SHA256: dg.MetadataValue.text(snapshot.sha256),
        ROWS_COUNTED: dg.MetadataValue.bool(snapshot.announced_rows is not None),
        **({UNCHANGED: dg.MetadataValue.bool(value=True)} if unchanged else {}),
        **column_metadata(schema),
    }


def _numbers(snapshot: Announcement, size_bytes: int | None) -> dict[str, int | float]:
    """The numbers of a snapshot and its pull, as far as they are known."""
    numbers: dict[str, int | float] = {}
    conversation = snapshot.seconds
    if isinstance(snapshot, Snapshot):
        size_bytes, conversation = snapshot.size_bytes, snapshot.seconds - snapshot.download_seconds
        numbers[DOWNLOAD_SECONDS] = round(snapshot.download_seconds, 3)
    numbers[CONVERSATION_SECONDS] = round(conversation, 3)
    if size_bytes is not None:
        numbers[SIZE_BYTES] = size_bytes
    if snapshot.announced_rows is not None:
        numbers[ANNOUNCED_ROWS] = snapshot.announced_rows
    return numbers


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags of a run of several partitions."""
    return {_FIRST: first, _LAST: last}


def first_and_last(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """The first and the last partition key of a run, which may be the same; None if it has none."""
    if (key := tags.get(_KEY)) is not None:  # as in Dagster, it counts more than a range
        return key, key
    first, last = tags.get(_FIRST), tags.get(_LAST)
    return None if first is None or last is None else (first, last)
