"""Slices: the rows of a snapshot that belong to each of several windows, by a time column."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.datatypes import DataType

from fdtcc_dagster.client import Snapshot, Window
from fdtcc_dagster.client.casting import read_instants
from fdtcc_dagster.client.errors import FdtccError, RowCountMismatchError, SchemaMismatchError
from fdtcc_dagster.client.parsing import source_errors
from fdtcc_dagster.localtime import instant_of, zone_of

_INSTANT = "__fdtcc_instant"


@dataclass(frozen=True)
class TimeColumn:
    """The column that says to which slice a row belongs.

    Attributes:
        name: The column's name. It holds datetimes (without a zone they are UTC, S14), dates, or ISO 8601 strings of
            either.
        timezone: The zone in whose midnights dates begin.
        allow_nulls: Whether rows without a time may be left out of all slices.
    """

    name: str
    timezone: str = "UTC"
    allow_nulls: bool = False


@dataclass(frozen=True)
class SlicedSnapshot:
    """A snapshot as typed Parquet, ready to be cut.

    Attributes:
        path: The Parquet file, which may have a column of instants besides those of the dataset.
        schema: The dataset's columns.
        time: The time column.
        instant: What holds a row's time in the file: the time column, or the instants parsed from its strings.
        rows: The snapshot's rows.
        nulls: How many of them have no time.
    """

    path: Path
    schema: pl.Schema
    time: TimeColumn
    instant: str
    rows: int
    nulls: int

    def rows_of(self, window: Window) -> pl.LazyFrame:
        """Give the rows with from_dt ≤ time < to_dt, in the snapshot's order.

        Args:
            window: The slice's window.

        Returns:
            The rows, with the dataset's columns.
        """
        return pl.scan_parquet(self.path).filter(self._within(window)).select(list(self.schema))

    def count(self, windows: Mapping[str, Window]) -> dict[str, int]:
        """Count the rows of each window, in one pass over the time column.

        Args:
            windows: Partition key → window.

        Returns:
            Partition key → number of rows.

        Raises:
            RowCountMismatchError: Windows that follow one another without a gap, and the rows before, after and without
                a time, do not add up to the snapshot.
        """
        ordered = sorted(windows.values(), key=lambda window: window.from_dt)
        dtype = pl.read_parquet_schema(self.path)[self.instant]
        counts = {key: self._within(window).sum().alias(key) for key, window in windows.items()}
        column = pl.col(self.instant)
        outside = (column < _bound(ordered[0].from_dt, dtype, self.time.timezone)).sum() + (
            column >= _bound(ordered[-1].to_dt, dtype, self.time.timezone)
        ).sum()
        row = pl.scan_parquet(self.path).select(**counts, **{_INSTANT: outside}).collect().row(0, named=True)
        contiguous = all(a.to_dt == b.from_dt for a, b in itertools.pairwise(ordered))
        if contiguous and sum(row.values()) + self.nulls != self.rows:
            raise RowCountMismatchError(
                f"the slices, with {row[_INSTANT]} rows outside of them and {self.nulls} without a time, have "
                f"{sum(row.values()) + self.nulls} rows, but the snapshot has {self.rows}"
            )
        return {key: int(row[key]) for key in windows}

    def _within(self, window: Window) -> pl.Expr:
        dtype = pl.read_parquet_schema(self.path)[self.instant]
        column, zone = pl.col(self.instant), self.time.timezone
        return (column >= _bound(window.from_dt, dtype, zone)) & (column < _bound(window.to_dt, dtype, zone))


def slice_snapshot(snapshot: Snapshot, schema: pl.Schema | None, time: TimeColumn) -> SlicedSnapshot:
    """Parse a snapshot once, verify it, and make it ready to be cut; its CSV is removed.

    Args:
        snapshot: The snapshot; the Parquet file is put beside its CSV.
        schema: The types of all columns, or None to infer them.
        time: The time column.

    Returns:
        The snapshot as Parquet.

    Raises:
        SchemaMismatchError: A value does not fit; the time column is missing, is of another type, or has text that is
            no ISO 8601; or rows have no time and must have one.
        RowCountMismatchError: The CSV has not as many rows as announced.
    """
    rows = snapshot.scan(schema)
    types = rows.collect_schema()
    instant, parsed = _instant_of(types, time, snapshot)
    path = snapshot.path.with_suffix(".parquet")
    with source_errors(), path.open("xb") as file:
        # Statistics of row groups let a slice skip those of other times.
        rows.with_columns(**parsed).sink_parquet(file, compression="zstd", statistics=True)
    counts = (
        pl.scan_parquet(path)
        .select(
            rows=pl.len(),
            untimed=pl.col(time.name).null_count(),
            unread=(pl.col(instant).is_null() & pl.col(time.name).is_not_null()).sum(),
        )
        .collect()
        .row(0, named=True)
    )
    if counts["unread"]:
        raise _mismatch(snapshot, time, f"{counts['unread']} rows have text that is no ISO 8601 time")
    if counts["untimed"] and not time.allow_nulls:
        raise _mismatch(
            snapshot,
            time,
            f"{counts['untimed']} of {counts['rows']} rows have no time, and belong to no slice; "
            "allow_null_times=True leaves them out",
        )
    snapshot.path.unlink()
    return SlicedSnapshot(path, types, time, instant, counts["rows"], counts["untimed"])


def check_time_dtype(name: str, dtype: DataType | None) -> None:
    """Make sure that a column can be a time column.

    Args:
        name: The column's name.
        dtype: Its type, or None where there is no such column.

    Raises:
        ValueError: It cannot.
    """
    if dtype is None:
        raise ValueError(f"time_column={name!r} is no column of the schema")
    if not isinstance(dtype, (pl.Datetime, pl.Date, pl.String)):
        raise ValueError(f"time_column={name!r} has the type {dtype}; a Datetime, Date or String of ISO 8601 is needed")


def _instant_of(types: pl.Schema, time: TimeColumn, snapshot: Snapshot) -> tuple[str, dict[str, pl.Expr]]:
    try:
        check_time_dtype(time.name, types.get(time.name))
    except ValueError as error:
        raise _mismatch(snapshot, time, str(error)) from error
    if isinstance(types[time.name], pl.String):
        return _INSTANT, {_INSTANT: _instants(pl.col(time.name), time.timezone)}
    return time.name, {}


def _instants(text: pl.Expr, timezone: str) -> pl.Expr:
    """ISO 8601 strings as instants; a date is the midnight that begins it."""
    day = text.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False)
    # Where clocks skip midnight, a date begins an hour later.
    midnight, later = (
        begin.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
        for begin in (day, day + dt.timedelta(hours=1))
    )
    is_date = text.str.contains(r"^\d{4}-\d\d-\d\d$")
    return (
        pl.when(is_date)
        .then(pl.coalesce(midnight, later).dt.convert_time_zone("UTC"))
        .otherwise(read_instants(pl.when(is_date).then(None).otherwise(text)))
    )


def _bound(instant: dt.datetime, dtype: DataType, timezone: str) -> pl.Expr:
    """A window's bound as a value of the time column's type."""
    utc = instant.astimezone(dt.timezone.utc)
    if isinstance(dtype, pl.Date):
        zone = zone_of(timezone)
        day = utc.astimezone(zone).date()
        # A date begins at its midnight: of a bound within a day, the first date that begins later.
        return pl.lit(day if instant_of(zone, day, dt.time()) >= utc else day + dt.timedelta(days=1))
    value = pl.lit(utc.replace(tzinfo=None), dtype=pl.Datetime("us"))
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        value = value.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
    return value.cast(dtype)


def _mismatch(snapshot: Snapshot, time: TimeColumn, text: str) -> FdtccError:
    return SchemaMismatchError(
        f"dataset {snapshot.dataset!r}, window {snapshot.window}: time column {time.name!r}: {text}",
        dataset=snapshot.dataset,
        window=snapshot.window,
        column=time.name,
    )
