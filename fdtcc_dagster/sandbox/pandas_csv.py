"""Writes a Polars frame as pandas would, without pandas: the container's dialect, docs/protocol.md#the-csv."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

_DAY = timedelta(days=1)


def to_pandas_csv(frame: pl.DataFrame) -> bytes:
    """Write a frame in the dialect of `pandas.DataFrame.to_csv(index=False)`, which the container delivers.

    Null and NaN are empty, integers beside nulls become floats (`1.0`), booleans are `True`/`False`, a column of
    naive datetimes loses its time when all of them are midnights and otherwise has as many decimals as its finest
    value needs, datetimes with a zone and durations have decimals only where there are any (as in pandas 2; pandas 3
    pads a column to one width), lists and structs are Python's repr, and fields are quoted only where they must be.

    Args:
        frame: Any Polars data frame.

    Returns:
        The CSV in UTF-8 with a header, lines ending in a line feed.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(frame.columns)
    # Without their names, of which methods of series make expressions, and of some of these patterns.
    writer.writerows(zip(*(_values(column.alias("")) for column in frame), strict=True))
    return text.getvalue().encode()


def _values(column: pl.Series) -> list[Any]:
    """The values for which `csv.writer` writes pandas' text; None becomes an empty field."""
    import polars as pl  # here, as a sandbox of plain files starts faster without it

    dtype = column.dtype
    if dtype.is_integer() and column.null_count():
        column = column.cast(pl.Float64)
    if dtype == pl.Float32:
        # Through text, or 0.1 would come out with the digits of its double.
        return [None if text in (None, "NaN") else float(text) for text in column.cast(pl.String).to_list()]
    if dtype.is_float():
        return column.fill_nan(None).to_list()
    if isinstance(dtype, pl.Datetime):
        return _aware(column) if dtype.time_zone else _naive(column)
    if dtype == pl.Duration:
        return _durations(column.to_list())
    return column.to_list()


def _naive(column: pl.Series) -> list[str | None]:
    import polars as pl

    nanoseconds = column.drop_nulls().cast(pl.Datetime("ns")).to_physical()
    layout = "%Y-%m-%d %H:%M:%S%.9f"
    for step, candidate in (
        (86_400 * 10**9, "%Y-%m-%d"),
        (10**9, "%Y-%m-%d %H:%M:%S"),
        (10**6, "%Y-%m-%d %H:%M:%S%.3f"),
        (10**3, "%Y-%m-%d %H:%M:%S%.6f"),
    ):
        if not (nanoseconds % step != 0).any():
            layout = candidate
            break
    return column.dt.strftime(layout).to_list()


def _aware(column: pl.Series) -> list[str | None]:
    return [None if value is None else str(value) for value in column.to_list()]


def _durations(values: list[timedelta | None]) -> list[str | None]:
    days_only = all(value is None or value % _DAY == timedelta(0) for value in values)
    return [None if value is None else _duration(value, days_only=days_only) for value in values]


def _duration(value: timedelta, *, days_only: bool) -> str:
    days, rest = divmod(value, _DAY)
    if days_only:
        return f"{days} days"
    minutes, seconds = divmod(rest.seconds, 60)
    sign = "+" if days < 0 else ""
    fraction = f".{rest.microseconds:06d}" if rest.microseconds else ""
    return f"{days} days {sign}{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{fraction}"
