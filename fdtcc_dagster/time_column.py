"""The column that makes the partitions of a dataset slices: what is declared of it, and which types it may have."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from polars.datatypes import DataType

from fdtcc_dagster.arguments import flag, shown
from fdtcc_dagster.errors import did_you_mean
from fdtcc_dagster.pandas_csv.schema import a_type


@dataclass(frozen=True)
class TimeColumn:
    """The column that says to which slice a row belongs.

    Attributes:
        name: The column's name. It holds datetimes (without a zone they are UTC), dates, or ISO 8601 strings of
            either. A date is its midnight in UTC, unless the column is declared as Date.
        timezone: The zone in whose midnights declared dates begin.
        allow_nulls: Whether rows without a time may be left out of all slices.
        complete_history: Whether the dataset keeps all its rows, so that there were none before its earliest time.
    """

    name: str
    timezone: str = "UTC"
    allow_nulls: bool = False
    complete_history: bool = False


def check_time_dtype(dtype: DataType | None) -> None:
    """Make sure that a column can be a time column.

    Args:
        dtype: Its type, or None where there is no such column.

    Raises:
        ValueError: It cannot.
    """
    if dtype is None:
        raise ValueError("there is no such column")
    if not isinstance(dtype, (pl.Datetime, pl.Date, pl.String)):
        raise ValueError(f"it is {a_type(dtype)}, but must be a Datetime, a Date, or a String of ISO 8601")


def check_time_column(
    column: object, allow_null_times: object, complete_history: object, schema: pl.Schema | None
) -> None:
    """Check what a dataset declares of its time column."""
    if not isinstance(column, str):
        raise ValueError(f"time_column={shown(column)} must be the name of one column")
    for name, value in {"allow_null_times": allow_null_times, "complete_history": complete_history}.items():
        flag(name, value)
    if schema is not None and column not in schema:
        raise ValueError(f"time_column={column!r} is no column of the schema{did_you_mean(column, schema)}")
    if schema is not None:
        try:
            check_time_dtype(schema[column])
        except ValueError as error:
            raise ValueError(f"time_column={column!r}: {error}") from None
