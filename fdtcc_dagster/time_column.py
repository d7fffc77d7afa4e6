"""The column that says to which slice a row belongs."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from polars.datatypes import DataType


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
