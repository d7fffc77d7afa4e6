"""From the strings of pandas' CSV dialect (S20) to declared types, strictly.

A block is cast in two steps. The usual spelling of a type is cast for all columns at once; a column in which that
leaves values over (ints with nulls are written `1.0`, midnight datetimes without their time) is cast again with every
spelling that pandas has for the type. What is then still left over does not fit, and is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import polars as pl
from polars.datatypes import DataType

_IDENTIFIERS = (("00", "0:"), ("-00", "-0:"), ("+", ","))
"""What begins with a zero and a digit, or with a plus, lies between these: an identifier such as 007, which a number
would not keep. To compare texts is cheaper than to match them."""
_EXACT_IN_FLOAT = 2**53
_INFINITE = ["inf", "-inf"]
_DECIMAL = r"^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:E[+-]?\d{1,3})?$"
_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
NANOSECOND_YEAR = r"(?:167[89]|16[89]\d|1[7-9]\d\d|2[01]\d\d|22[0-5]\d|226[01])"
"""The whole years of 64 bits of nanoseconds; Polars lets others overflow into another century."""
_CLOCK = r"[01]\d:[0-5]\d:[0-5]\d|2[0-3]:[0-5]\d:[0-5]\d"
"""No leap second: Polars would make it the next minute."""
_MIDNIGHT = r"[ T]00:00:00(?:\.0+)?(?:Z|\+00:00)?"
_OFFSET = r"(?:[+-]\d\d:\d\d|Z)"
_SECONDS = "2024-01-01 00:00:00"
_FEW = 256
_DOUBTFUL = "\0doubtful"
_TIME_UNIT_DIGITS = {"ms": 3, "us": 6, "ns": 9}


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
class Cast:
    """How a column is cast."""

    usual: Callable[[pl.Expr], pl.Expr]
    """The usual spelling; null where it does not fit."""
    every: Callable[[pl.Expr], pl.Expr]
    """Every spelling of the type; null where none fits."""
    refuse: Callable[[pl.Expr], pl.Expr] | None = None
    """True for text that a cast would take and thereby change; an infinite float is not told here."""


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
    casts = {column: cast_of(dtype, text[column]) for column, dtype in schema.items()}
    # Whether a column is doubtful stands beside it in the same frame: so all of it is done for all columns at once.
    both = text.select(
        *(cast.usual(pl.col(column)).alias(column) for column, cast in casts.items()),
        *(
            cast.refuse(pl.col(column)).any().alias(f"{column}{_DOUBTFUL}")
            for column, cast in casts.items()
            if cast.refuse
        ),
    )
    typed = both.select(list(casts))
    for column, cast in casts.items():
        refused = cast.refuse is not None and not both.is_empty() and both[f"{column}{_DOUBTFUL}"][0]
        overflown = schema[column].is_float() and typed[column].is_infinite().any()
        if refused or overflown or typed[column].null_count() != text[column].null_count():
            typed = typed.with_columns(_cast_again(text.select(column), column, cast, schema[column]))
    return typed


def _cast_again(text: pl.DataFrame, column: str, cast: Cast, dtype: DataType) -> pl.Series:
    value = pl.col(column)
    refused = cast.refuse(value).fill_null(value=False) if cast.refuse else pl.lit(value=False)
    if dtype.is_float():
        refused |= _overflowing(value, dtype)
    typed = text.select(pl.when(refused).then(None).otherwise(cast.every(value)).cast(dtype).alias(column))[column]
    left_over = (typed.is_null() & text[column].is_not_null()).arg_true()
    if len(left_over):
        row = int(left_over[0])
        raise Misfit(column, row, str(text[column][row]), dtype)
    return typed


def cast_of(dtype: DataType, text: pl.Series) -> Cast:
    """How to cast a block's column.

    Args:
        dtype: The declared type.
        text: The column, whose first value tells the usual spelling of timestamps.
    """
    if dtype.is_integer():
        usual = (lambda c: _floats_of_integers(c, dtype)) if _first(text).endswith(".0") else _plainly(dtype)
        return Cast(usual, lambda c: _integers(c, dtype), _spelled_as_identifier)
    if dtype.is_float():
        return Cast(_plainly(dtype), _plainly(dtype), _spelled_as_identifier)
    if isinstance(dtype, pl.Boolean):
        return Cast(
            lambda c: _booleans(c, ["True"], ["False"]), lambda c: _booleans(c, ["True", "true"], ["False", "false"])
        )
    if isinstance(dtype, pl.Date):
        spelled = rf"^{_YEAR}-\d\d-\d\d(?:{_MIDNIGHT})?$"
        return Cast(_dates, lambda c: _dates(c.str.head(len("2024-01-01"))), _not_spelled(spelled))
    if isinstance(dtype, pl.Time):
        return Cast(_times, _times, _not_spelled(rf"^(?:{_CLOCK})(?:\.\d{{1,9}})?$"))
    if isinstance(dtype, pl.Datetime):
        return _datetime_cast(dtype, _first(text))
    if isinstance(dtype, pl.Decimal):
        return Cast(
            lambda c: _decimals(c, dtype), lambda c: _all_decimals(c, dtype), lambda c: _no_decimal(c, dtype.scale)
        )
    return Cast(_plainly(dtype), _plainly(dtype))


def _first(text: pl.Series) -> str:
    """The first value, or no text."""
    return next(iter(text.head(_FEW).drop_nulls().head(1)), "")


def _plainly(dtype: DataType) -> Callable[[pl.Expr], pl.Expr]:
    return lambda c: c.cast(dtype, strict=False)


def _not_spelled(form: str) -> Callable[[pl.Expr], pl.Expr]:
    return lambda c: c.str.contains(form).not_()


def _spelled_as_identifier(c: pl.Expr) -> pl.Expr:
    return pl.any_horizontal(*(c.is_between(pl.lit(a), pl.lit(b), closed="left") for a, b in _IDENTIFIERS))


def _integers(c: pl.Expr, dtype: DataType) -> pl.Expr:
    return pl.coalesce(c.cast(dtype, strict=False), _floats_of_integers(c, dtype))


def _floats_of_integers(c: pl.Expr, dtype: DataType) -> pl.Expr:
    # With a null among them pandas holds ints as floats and writes 1.0; beyond 2^53 that float may be another integer.
    number = c.str.strip_suffix(".0").cast(dtype, strict=False)
    return pl.when(number.is_between(-_EXACT_IN_FLOAT, _EXACT_IN_FLOAT, closed="none")).then(number).otherwise(None)


def _overflowing(c: pl.Expr, dtype: DataType) -> pl.Expr:
    """A number that is too large for the type, which a cast would make infinite."""
    number = c.cast(dtype, strict=False)
    return number.is_infinite() & c.is_in(_INFINITE).not_()


def _booleans(c: pl.Expr, true: list[str], false: list[str]) -> pl.Expr:
    is_true, is_false = (pl.any_horizontal(*(c == text for text in texts)) for texts in (true, false))
    return pl.when(is_true).then(statement=True).when(is_false).then(statement=False).otherwise(None)


def _dates(c: pl.Expr) -> pl.Expr:
    return c.str.to_date("%Y-%m-%d", strict=False)


def _times(c: pl.Expr) -> pl.Expr:
    return c.str.to_time("%H:%M:%S%.f", strict=False)


def _datetime_cast(dtype: pl.Datetime, sample: str = "") -> Cast:
    unit, zone = dtype.time_unit, dtype.time_zone

    def in_zone(c: pl.Expr) -> pl.Expr:
        return c.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else c

    def any_spelling(c: pl.Expr) -> pl.Expr:
        form = "%Y-%m-%d %H:%M:%S%.f%:z" if zone else "%Y-%m-%d %H:%M:%S%.f"
        parsed = c.str.to_datetime(form, time_unit=unit, time_zone=zone and "UTC", strict=False)
        return parsed.dt.convert_time_zone(zone) if zone else parsed

    def usual(c: pl.Expr) -> pl.Expr:
        """What is spelled as the sample is; pandas writes all of a column alike. Polars is slow at fractions."""
        offset = "+00:00" if zone and sample.endswith("+00:00") else ""
        digits = len(sample) - len(offset) - len(_SECONDS)
        alike = pl.when(c.str.len_bytes() == len(sample)).then(c).otherwise(None)
        if offset:
            alike = pl.when(c.str.ends_with(offset)).then(alike).otherwise(None)
        whole = alike.str.head(len(_SECONDS)).str.to_datetime(
            "%Y-%m-%d %H:%M:%S", time_unit=unit, strict=False, cache=False
        )
        if digits > 0:
            fraction = c.str.slice(len(_SECONDS) + 1, digits - 1).cast(pl.Int64, strict=False)
            unit_digits = _TIME_UNIT_DIGITS[unit]
            whole = (whole.cast(pl.Int64) + fraction * 10 ** (unit_digits - digits + 1)).cast(pl.Datetime(unit))
        return in_zone(whole)

    def every(c: pl.Expr) -> pl.Expr:
        c = c.str.replace("T", " ", literal=True).str.replace("Z", "+00:00", literal=True)
        c = pl.when(c.str.len_bytes() == len("2024-01-01")).then(c + " 00:00:00").otherwise(c)
        if zone:
            # Without an offset the instant is UTC, as everywhere in the container (S14).
            c = pl.when(c.str.contains(rf"{_OFFSET}$")).then(c).otherwise(c + "+00:00")
        return any_spelling(c)

    known = len(_SECONDS) <= len(sample.removesuffix("+00:00")) <= len(_SECONDS) + 1 + _TIME_UNIT_DIGITS[unit]
    year, digits = NANOSECOND_YEAR if unit == "ns" else _YEAR, _TIME_UNIT_DIGITS[unit]
    # Digits beyond the unit would be dropped, so they must be zeros.
    clock = rf"(?:{_CLOCK})(?:\.\d{{1,{digits}}}0*)?{_OFFSET + '?' if zone else ''}"
    return Cast(usual if known else every, every, _not_spelled(rf"^{year}-\d\d-\d\d(?:[ T]{clock})?$"))


def read_instants(c: pl.Expr) -> pl.Expr:
    """Read ISO 8601 timestamps from strings.

    Args:
        c: A String expression: dates or timestamps, in UTC where they have no offset (S14).

    Returns:
        A `Datetime("us", "UTC")` expression, rounded down to microseconds, null where the text is no timestamp.
    """
    cast = _datetime_cast(pl.Datetime("us", "UTC"))
    short = c.str.replace(r"(\.\d{6})\d{1,3}", "$1")
    assert cast.refuse is not None  # noqa: S101  datetimes have a spelling
    return pl.when(cast.refuse(short)).then(None).otherwise(cast.every(short))


def _no_decimal(c: pl.Expr, scale: int) -> pl.Expr:
    """Other spellings than Python's, and digits beyond the scale, which a cast would round away."""
    return c.str.contains(_DECIMAL).not_() | c.str.contains(rf"\.\d{{{scale}}}\d*[1-9]\d*$")


def _decimals(c: pl.Expr, dtype: pl.Decimal) -> pl.Expr:
    # Polars rounds what has an exponent, or cannot read it, depending on its version.
    return pl.when(c.str.contains("E", literal=True)).then(None).otherwise(c).cast(dtype, strict=False)


def _all_decimals(c: pl.Expr, dtype: pl.Decimal) -> pl.Expr:
    # Python writes small decimals and zeros of a large scale with an exponent: 1E-7, 0E-18.
    short = c.str.contains("E", literal=True) & c.str.contains(_DECIMAL)
    written_out = pl.when(short).then(c).otherwise(None).map_elements(_written_out, pl.String)
    exact = pl.when(_no_decimal(written_out, dtype.scale)).then(None).otherwise(written_out)
    return pl.coalesce(_decimals(c, dtype), exact.cast(dtype, strict=False))


def _written_out(text: str) -> str:
    return format(Decimal(text), "f")
