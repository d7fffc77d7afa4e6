"""From the strings of pandas' CSV dialect (S20) to declared types, strictly.

A block is cast in two steps. The usual spelling of a type is cast for all columns at once; a column in which that
leaves values over (ints with nulls are written `1.0`, midnight datetimes without their time) is cast again with every
spelling that pandas has for the type. What is then still left over does not fit, and is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
from polars.datatypes import DataType

_TIME_UNIT_DIGITS = {"ms": 3, "us": 6, "ns": 9}
_IDENTIFIER = r"^[+-]?0\d|^\+"
"""A leading zero or plus: an identifier such as 007, which a number would not keep."""


class Misfit(Exception):  # noqa: N818 (it never leaves the package: `parsing` makes it a SchemaMismatchError)
    """A value that does not fit.

    Attributes:
        column: The column's name.
        row: The 0-based row within the block.
        value: The text found.
        dtype: The declared type.
    """

    def __init__(self, column: str, row: int, value: str, dtype: DataType) -> None:
        super().__init__(column, row, value, dtype)
        self.column, self.row, self.value, self.dtype = column, row, value, dtype


@dataclass(frozen=True)
class _Cast:
    usual: Callable[[pl.Expr], pl.Expr]
    """The usual spelling; null where it does not fit."""
    every: Callable[[pl.Expr], pl.Expr]
    """Every spelling of the type; null where none fits."""
    refuse: Callable[[pl.Expr], pl.Expr] | None = None
    """True for text that a cast would take and thereby change."""


def cast_block(text: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Cast a block of strings.

    Args:
        text: String columns, null where the CSV has an empty field.
        schema: Data types of columns of `text`; the result has these columns, in this order.

    Returns:
        The typed block.

    Raises:
        Misfit: A value does not fit; the first one of the first such column is named.
    """
    casts = {column: _cast_for(dtype) for column, dtype in schema.items()}
    typed = text.select(cast.usual(pl.col(column)).alias(column) for column, cast in casts.items())
    doubtful = text.select(
        cast.refuse(pl.col(column)).any().alias(column) for column, cast in casts.items() if cast.refuse
    )
    for column, cast in casts.items():
        refused = column in doubtful.columns and bool(doubtful[column].item())
        if refused or typed[column].null_count() != text[column].null_count():
            typed = typed.with_columns(_cast_again(text.select(column), column, cast, schema[column]))
    return typed


def _cast_again(text: pl.DataFrame, column: str, cast: _Cast, dtype: DataType) -> pl.Series:
    value = pl.col(column)
    refused = cast.refuse(value).fill_null(value=False) if cast.refuse else pl.lit(value=False)
    typed = text.select(pl.when(refused).then(None).otherwise(cast.every(value)).cast(dtype).alias(column))[column]
    left_over = (typed.is_null() & text[column].is_not_null()).arg_true()
    if len(left_over):
        row = int(left_over[0])
        raise Misfit(column, row, str(text[column][row]), dtype)
    return typed


def _cast_for(dtype: DataType) -> _Cast:
    if dtype.is_integer():
        return _Cast(lambda c: c.cast(dtype, strict=False), lambda c: _integers(c, dtype), _spelled_as_identifier)
    if dtype.is_float():
        return _Cast(_plainly(dtype), _plainly(dtype), _spelled_as_identifier)
    if isinstance(dtype, pl.Boolean):
        return _Cast(_booleans, _booleans)
    if isinstance(dtype, pl.Date):
        return _Cast(_dates, lambda c: _dates(c.str.replace(r"[ T]00:00:00(\.0+)?(Z|\+00:00)?$", "")))
    if isinstance(dtype, pl.Time):
        return _Cast(_times, _times)
    if isinstance(dtype, pl.Datetime):
        return _datetime_cast(dtype)
    if isinstance(dtype, pl.Decimal):
        return _Cast(_plainly(dtype), _plainly(dtype), lambda c: _too_precise(c, dtype.scale))
    return _Cast(_plainly(dtype), _plainly(dtype))


def _plainly(dtype: DataType) -> Callable[[pl.Expr], pl.Expr]:
    return lambda c: c.cast(dtype, strict=False)


def _spelled_as_identifier(c: pl.Expr) -> pl.Expr:
    return c.str.contains(_IDENTIFIER)


def _integers(c: pl.Expr, dtype: DataType) -> pl.Expr:
    # With a null among them pandas holds ints as floats, and writes 1.0 or 1e+16.
    number = c.cast(pl.Float64, strict=False)
    whole = pl.when((number == number.floor()) & (number.abs() < 2.0**63)).then(number).otherwise(None)
    return pl.coalesce(
        c.str.strip_suffix(".0").cast(dtype, strict=False),
        pl.when(c.str.contains("e", literal=True)).then(whole).cast(dtype, strict=False),
    )


def _booleans(c: pl.Expr) -> pl.Expr:
    return (
        pl.when(c.is_in(["True", "true"]))
        .then(statement=True)
        .when(c.is_in(["False", "false"]))
        .then(statement=False)
        .otherwise(None)
    )


def _dates(c: pl.Expr) -> pl.Expr:
    return c.str.to_date("%Y-%m-%d", strict=False)


def _times(c: pl.Expr) -> pl.Expr:
    return c.str.to_time("%H:%M:%S%.f", strict=False)


def _datetime_cast(dtype: pl.Datetime) -> _Cast:
    unit, zone = dtype.time_unit, dtype.time_zone

    def parse(c: pl.Expr, form: str) -> pl.Expr:
        return c.str.to_datetime(form, time_unit=unit, time_zone=zone and "UTC", strict=False)

    def usual(c: pl.Expr) -> pl.Expr:
        form = "%Y-%m-%d %H:%M:%S%.f%:z" if zone else "%Y-%m-%d %H:%M:%S%.f"
        parsed = parse(c, form)
        return parsed.dt.convert_time_zone(zone) if zone else parsed

    def every(c: pl.Expr) -> pl.Expr:
        c = c.str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
        c = pl.when(c.str.len_bytes() == len("2024-01-01")).then(c + " 00:00:00").otherwise(c)
        if zone:
            # Without an offset the instant is UTC, as everywhere in the container (S14).
            c = pl.when(c.str.contains(r"[+-]\d\d:?\d\d$").not_()).then(c + "+00:00").otherwise(c)
        return usual(c)

    return _Cast(usual, every, lambda c: _too_fine(c, _TIME_UNIT_DIGITS[unit]))


def _too_fine(c: pl.Expr, digits: int) -> pl.Expr:
    """Digits of a second beyond the type's unit, which a cast would drop."""
    shortest = len("2024-01-01 00:00:00.") + digits
    # Length first: it is cheap, and no usual value is that long.
    return (c.str.len_bytes() > shortest) & c.str.contains(rf"\.\d{{{digits}}}\d*[1-9]")


def _too_precise(c: pl.Expr, scale: int) -> pl.Expr:
    """Digits beyond the decimal's scale, which a cast would round away."""
    return c.str.contains(rf"\.\d{{{scale}}}\d*[1-9]") | c.str.contains("e", literal=True)
