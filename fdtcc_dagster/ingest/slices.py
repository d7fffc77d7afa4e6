"""Slices: the rows of a snapshot that belong to each of several windows, by a time column."""

from __future__ import annotations

import datetime as dt
import glob
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from polars.datatypes import DataType

from fdtcc_dagster.calendar.timezones import instant_of, zone_of
from fdtcc_dagster.client.disk_budget import DiskBudget
from fdtcc_dagster.errors import FdtccError, RowCountMismatchError, SchemaMismatchError
from fdtcc_dagster.pandas_csv.cast import column_of
from fdtcc_dagster.pandas_csv.cast_rules import read_instants
from fdtcc_dagster.pandas_csv.source import CsvSource, TypedCsv
from fdtcc_dagster.redaction import counted, quoted
from fdtcc_dagster.time_column import TimeColumn, check_time_dtype
from fdtcc_dagster.window import Window

_HELD_BYTES = 48 << 20
"""Rows of slices in memory; beyond it, they are written to files."""


_FIRST_NANOSECONDS, _LAST_NANOSECONDS = map(dt.datetime.fromisoformat, ("1677-09-22", "2262-04-11"))
"""Days within the range of 64 bits of nanoseconds; windows may extend beyond."""


@dataclass(frozen=True)
class Slices:
    """A snapshot that was cut into slices.

    Attributes:
        schema: The dataset's columns.
        rows: The number of the snapshot's rows.
        counts: The number of rows of each slice.
        begins: The earliest time of all rows, in a slice or not; None if no row has a time.
        outgrown: The slices whose windows begin before that.
    """

    schema: pl.Schema
    rows: int
    counts: Mapping[str, int]
    begins: str | None
    outgrown: frozenset[str]
    _parts: Mapping[str, list[Path]] = field(repr=False)

    def rows_of(self, key: str) -> pl.LazyFrame:
        """The rows with from_dt ≤ time < to_dt of a slice, in the snapshot's order, with the dataset's columns."""
        parts = self._parts.get(key, [])
        # Not all versions of Polars can be told that a path is literal.
        paths = [glob.escape(str(part)) for part in parts]
        return pl.scan_ipc(paths) if paths else self.schema.to_frame().lazy()

    def remove(self, key: str) -> None:
        """Remove a slice's files."""
        for part in self._parts.get(key, []):
            part.unlink(missing_ok=True)


def cut(
    source: CsvSource, schema: pl.Schema | None, time: TimeColumn, windows: Mapping[str, Window], directory: Path
) -> Slices:
    """Read a snapshot once, verify it, and cut it into slices.

    Args:
        source: The snapshot's CSV, which may still be arriving.
        schema: The types of all columns, or None to infer them.
        time: The time column.
        windows: Key → window of each slice. Windows do not overlap.
        directory: A directory for the slices' rows.

    Returns:
        The slices; rows outside all windows are left out.

    Raises:
        SchemaMismatchError: A value does not fit; the time column is missing, has another type, or contains text that
            is not ISO 8601; or rows have no time although they must.
        RowCountMismatchError: The CSV has more or fewer rows than announced.
        FdtccError: The CSV did not arrive.
        OSError: The slices' rows cannot be written, or would fill the disk.
    """
    declared = schema is not None
    return source.read(schema, lambda csv: _cut(csv, time, windows, directory, declared=declared))


def _cut(csv: TypedCsv, time: TimeColumn, windows: Mapping[str, Window], directory: Path, *, declared: bool) -> Slices:
    try:
        check_time_dtype(csv.schema.get(time.name))
    except ValueError as error:
        raise _mismatch(csv.source, time, str(error)) from error
    dtype = _instants_of(column_of(csv.schema.to_frame(), time.name), declared=declared).dtype
    budget = DiskBudget(directory, None, f"the slices of dataset {csv.source.dataset!r}, window {csv.source.window}")
    bounds = _Bounds(windows, dtype, time.timezone)
    cutter = _Cutter(bounds, directory, budget)
    try:
        rows = _take_all(csv, time, cutter, declared=declared)
    except BaseException:
        # It may be cut again, and needs the space until then.
        cutter.remove()
        raise
    earliest = cutter.earliest
    begins = None if earliest is None else _text(earliest, dtype)
    return Slices(csv.schema, rows, cutter.counts, begins, bounds.outgrown(earliest), cutter.parts)


def _first(found: pl.Series) -> int:
    """The first row of a block that a mask has; it has one."""
    return found.arg_max() or 0


def _take_all(csv: TypedCsv, time: TimeColumn, cutter: _Cutter, *, declared: bool) -> int:
    source = csv.source
    rows = untimed = unread = first_untimed = first_unread = 0
    value = ""
    for block in csv.frames():
        times = column_of(block, time.name)
        instants = _instants_of(times, declared=declared)
        nulls = times.null_count()
        if nulls and not untimed:
            first_untimed = rows + _first(times.is_null()) + 1
        if (more := instants.null_count() - nulls) and not unread:
            row = _first(instants.is_null() & times.is_not_null())
            first_unread, value = rows + row + 1, str(times[row])
        rows += block.height
        untimed += nulls
        unread += more
        cutter.take(block, instants)
    if unread:
        said = f"row {first_unread}: {quoted(value)} is no time of ISO 8601, as in {counted(unread, 'row')} of {rows}"
        raise _mismatch(source, time, said, row=first_unread, value=value)
    if untimed and not time.allow_nulls:
        raise _mismatch(
            source,
            time,
            f"no time in {untimed} of {counted(rows, 'row')}, first in row {first_untimed}: these belong to no slice; "
            "allow_null_times=True leaves them out",
            row=first_untimed,
        )
    cutter.flush()
    if (found := sum(cutter.counts.values()) + cutter.outside + untimed) != rows:
        raise RowCountMismatchError(
            f"dataset {source.dataset!r}: the slices have {counted(found, 'row')}, with {cutter.outside} outside of "
            f"them and {untimed} without a time, but the snapshot has {rows}",
            dataset=source.dataset,
            window=source.window,
        )
    return rows


class _Bounds:
    """The windows' bounds in order of time, as values of the time column's type."""

    def __init__(self, windows: Mapping[str, Window], dtype: DataType, timezone: str) -> None:
        instants = sorted({bound for window in windows.values() for bound in (window.from_dt, window.to_dt)})
        self._sorted = pl.concat([pl.select(_bound(instant, dtype, timezone).alias("b")) for instant in instants])["b"]
        # The rows between one bound and the next one are of the slice that begins with it, if any does.
        keys = {window.from_dt: key for key, window in windows.items()}
        self.keys = {number: keys[instant] for number, instant in enumerate(instants, 1) if instant in keys}

    def interval_of(self, instants: pl.Series) -> pl.Series:
        """For each instant, the number of bounds that are not later."""
        return self._sorted.to_physical().search_sorted(instants.to_physical(), side="right")

    def outgrown(self, earliest: int | None) -> frozenset[str]:
        """The keys whose windows begin before an instant of the physical type; all if it is None."""
        if earliest is None:
            return frozenset(self.keys.values())
        before = self._sorted.to_physical().search_sorted(earliest, side="left")
        return frozenset(key for number, key in self.keys.items() if number <= before)


class _Cutter:
    """Collects the rows of each slice, in files if they are many."""

    def __init__(self, bounds: _Bounds, directory: Path, budget: DiskBudget) -> None:
        self._bounds, self._directory, self._budget = bounds, directory, budget
        self._written = 0
        self._held: dict[str, list[pl.DataFrame]] = {}
        self._size = 0
        self._numbers = itertools.count()
        self.outside = 0
        self.earliest: int | None = None
        self.counts = dict.fromkeys(bounds.keys.values(), 0)
        self.parts: dict[str, list[Path]] = {}

    def take(self, block: pl.DataFrame, instants: pl.Series) -> None:
        # As integers: Python's datetimes have neither nanoseconds nor all years.
        found = [n for n in (self.earliest, instants.to_physical().min()) if isinstance(n, int)]
        self.earliest = min(found, default=None)
        for interval, rows in self._pieces(block, instants):
            key = self._bounds.keys.get(interval)
            if key is None:
                self.outside += rows.height
                continue
            self._held.setdefault(key, []).append(rows)
            self.counts[key] += rows.height
        # Pieces of a block share its text.
        self._size += int(block.estimated_size())
        if self._size > _HELD_BYTES:
            self.flush()

    def _pieces(self, block: pl.DataFrame, instants: pl.Series) -> Iterator[tuple[int, pl.DataFrame]]:
        if instants.null_count():
            block, instants = block.filter(instants.is_not_null()), instants.drop_nulls()
        if block.is_empty():
            return
        intervals = self._bounds.interval_of(instants)
        if intervals.min() == intervals.max():
            yield int(intervals[0]), block
            return
        # A name that is longer than those of all columns is new.
        name = "_" * (1 + max(map(len, block.columns)))
        pieces = block.with_columns(intervals.alias(name)).partition_by(name, include_key=False, as_dict=True)
        for (interval,), rows in pieces.items():
            yield int(interval), rows

    def flush(self) -> None:
        for key, frames in self._held.items():
            rows = pl.concat(frames, rechunk=False)
            self._written += int(rows.estimated_size())
            self._budget.check(self._written)
            part = self._part(next(self._numbers))
            with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                rows.write_ipc(file)
            self.parts.setdefault(key, []).append(part)
        self._held, self._size = {}, 0

    def remove(self) -> None:
        for number in range(next(self._numbers)):
            self._part(number).unlink(missing_ok=True)

    def _part(self, number: int) -> Path:
        return self._directory / f"slice-{number}.arrow"


def _instants_of(times: pl.Series, *, declared: bool) -> pl.Series:
    """The values that are compared with the windows' bounds: days if dates were declared, otherwise instants."""
    if times.dtype == pl.String:
        return read_instants(times)
    # pandas drops the time of a column of midnights, so whether these are dates depends on the other rows.
    return times.cast(pl.Datetime("us")) if times.dtype == pl.Date and not declared else times


def _bound(instant: dt.datetime, dtype: DataType, timezone: str) -> pl.Expr:
    """A window's bound as a value of the time column's type."""
    utc = instant.astimezone(dt.timezone.utc)
    if isinstance(dtype, pl.Date):
        zone = zone_of(timezone)
        day = utc.astimezone(zone).date()
        # A date begins at its midnight: of a bound within a day, the first date that begins later.
        return pl.lit(day if instant_of(zone, day, dt.time()) >= utc else day + dt.timedelta(days=1))
    naive = utc.replace(tzinfo=None)
    if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns":
        naive = min(max(naive, _FIRST_NANOSECONDS), _LAST_NANOSECONDS)
    value = pl.lit(naive, dtype=pl.Datetime("us"))
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        value = value.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
    return value.cast(dtype)


def _text(instant: int, dtype: DataType) -> str:
    """A value of the time column's physical type, as ISO 8601."""
    value = pl.Series([instant]).cast(dtype)
    if isinstance(dtype, pl.Date):
        return str(value.dt.strftime("%F")[0])
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        value = value.dt.convert_time_zone("UTC")
    return str(value.dt.strftime("%FT%T%.f+00:00")[0])


def _mismatch(
    source: CsvSource, time: TimeColumn, text: str, *, row: int | None = None, value: str | None = None
) -> FdtccError:
    return SchemaMismatchError(
        f"dataset {source.dataset!r}, window {source.window}: time column {time.name!r}: {text}",
        dataset=source.dataset,
        window=source.window,
        column=time.name,
        row=row,
        value=value,
    )
