"""Types inferred over a whole CSV, never over its first rows.

A column gets the narrowest type for which pandas would write every one of its values in exactly this way: see
docs/protocol.md#the-csv. So an identifier keeps its spelling as a string: `007`, `1.10`, `3E7`, `1e5`, or digits beyond
64 bits.

The container writes large datasets batch by batch, so one column may be integers in one batch and `1.0` in another, or
dates in one and datetimes in another. Such columns become floats, if the integers have up to 15 digits, or datetimes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import polars as pl
from polars.datatypes import DataType

from fdtcc_dagster.pandas_csv.cast import CastError, cast_block, column_of, transform
from fdtcc_dagster.pandas_csv.cast_rules import NANOSECOND_YEARS, Cast, cast_of, spelling_of
from fdtcc_dagster.pandas_csv.spelling import digits_of


class _Kind(IntEnum):
    EMPTY = 0
    BOOLEAN = 1
    INTEGER = 2
    WIDE_INTEGER = 3
    FLOAT = 4
    DATE = 5
    FAR_DATE = 6
    DATETIME = 7
    FAR_DATETIME = 8
    FINE_DATETIME = 9
    ZONED_DATETIME = 10
    FAR_ZONED_DATETIME = 11
    FINE_ZONED_DATETIME = 12
    TEXT = 13


_DTYPES: dict[_Kind, DataType] = {
    _Kind.EMPTY: pl.String(),
    _Kind.BOOLEAN: pl.Boolean(),
    _Kind.INTEGER: pl.Int64(),
    _Kind.WIDE_INTEGER: pl.Int64(),
    _Kind.FLOAT: pl.Float64(),
    _Kind.DATE: pl.Date(),
    _Kind.FAR_DATE: pl.Date(),
    _Kind.DATETIME: pl.Datetime("us"),
    _Kind.FAR_DATETIME: pl.Datetime("us"),
    _Kind.FINE_DATETIME: pl.Datetime("ns"),
    _Kind.ZONED_DATETIME: pl.Datetime("us", "UTC"),
    _Kind.FAR_ZONED_DATETIME: pl.Datetime("us", "UTC"),
    _Kind.FINE_ZONED_DATETIME: pl.Datetime("ns", "UTC"),
    _Kind.TEXT: pl.String(),
}

_DAY = r"\d{4}-\d\d-\d\d"
# pandas does not write ISO 8601's T and Z. It may leave out the zeros of a year; but without a time, 1-01-01 may be a
# number, and two digits are more likely the end of a year.
_CLOCK = r" \d\d:\d\d:\d\d"
_SHORT_DAY = r"[1-9](?:\d\d)?-\d\d-\d\d"
_OFFSET = r"[+-]\d\d:\d\d"
# A float holds 15 digits exactly; a longer integer must not meet a fraction in its column.
_EXACT_DIGITS = 15
_EXACT_INTEGER = rf"0|-?[1-9]\d{{0,{_EXACT_DIGITS - 1}}}"
# Exponents are of at least 2 digits, and stand only where the number has more than 16 digits or 4 leading zeros.
_EXPONENT = r"e(?:\+(?:1[6-9]|[2-9]\d|[1-3]\d\d)|-(?:0[5-9]|[1-9]\d|[1-3]\d\d))"
_FRACTION = rf"0\.0{{0,3}}[1-9]|0\.0{{0,3}}[1-9]\d*[1-9]|[1-9]\d{{0,15}}\.\d*[1-9]|[1-9](?:\.\d*[1-9])?{_EXPONENT}"
_SPELLINGS: dict[_Kind, str] = {
    _Kind.BOOLEAN: r"^(?:True|False)$",
    _Kind.INTEGER: rf"^(?:{_EXACT_INTEGER})$",
    _Kind.WIDE_INTEGER: r"^(?:0|-?[1-9]\d{0,18})$",
    _Kind.FLOAT: rf"^(?:{_EXACT_INTEGER}|-?(?:(?:0|[1-9]\d{{0,15}})\.0|{_FRACTION}|inf))$",
    _Kind.DATE: rf"^{_DAY}$",
    _Kind.FAR_DATE: rf"^{_DAY}$",
    _Kind.DATETIME: rf"^{_DAY}(?:{_CLOCK}(?:\.\d{{1,6}})?)?$",
    _Kind.FAR_DATETIME: rf"^(?:{_DAY}|(?:{_DAY}|{_SHORT_DAY}){_CLOCK}(?:\.\d{{1,6}})?)$",
    _Kind.FINE_DATETIME: rf"^{_DAY}(?:{_CLOCK}(?:\.\d{{1,9}})?)?$",
    _Kind.ZONED_DATETIME: rf"^{_DAY}{_CLOCK}(?:\.\d{{1,6}})?{_OFFSET}$",
    _Kind.FAR_ZONED_DATETIME: rf"^{_DAY}{_CLOCK}(?:\.\d{{1,6}})?{_OFFSET}$",
    _Kind.FINE_ZONED_DATETIME: rf"^{_DAY}{_CLOCK}(?:\.\d{{1,9}})?{_OFFSET}$",
}
_NEAR: dict[_Kind, DataType] = {
    _Kind.DATE: pl.Datetime("ns"),
    _Kind.DATETIME: pl.Datetime("ns"),
    _Kind.ZONED_DATETIME: pl.Datetime("ns", "UTC"),
}
"""Types that values must also fit: a far date or datetime must not share a column with nanoseconds."""
_WIDER: dict[_Kind, tuple[_Kind, ...]] = {
    _Kind.EMPTY: tuple(_SPELLINGS),
    _Kind.BOOLEAN: (_Kind.BOOLEAN,),
    _Kind.INTEGER: (_Kind.INTEGER, _Kind.WIDE_INTEGER, _Kind.FLOAT),
    _Kind.WIDE_INTEGER: (_Kind.WIDE_INTEGER,),
    _Kind.FLOAT: (_Kind.FLOAT,),
    _Kind.DATE: (_Kind.DATE, _Kind.FAR_DATE, _Kind.DATETIME, _Kind.FAR_DATETIME, _Kind.FINE_DATETIME),
    _Kind.FAR_DATE: (_Kind.FAR_DATE, _Kind.FAR_DATETIME),
    _Kind.DATETIME: (_Kind.DATETIME, _Kind.FAR_DATETIME, _Kind.FINE_DATETIME),
    _Kind.FAR_DATETIME: (_Kind.FAR_DATETIME,),
    _Kind.FINE_DATETIME: (_Kind.FINE_DATETIME,),
    _Kind.ZONED_DATETIME: (_Kind.ZONED_DATETIME, _Kind.FAR_ZONED_DATETIME, _Kind.FINE_ZONED_DATETIME),
    _Kind.FAR_ZONED_DATETIME: (_Kind.FAR_ZONED_DATETIME,),
    _Kind.FINE_ZONED_DATETIME: (_Kind.FINE_ZONED_DATETIME,),
    _Kind.TEXT: (),
}
"""The kinds that a column may become when a value does not fit its present one: all earlier values fit them, too."""
_FEW = 64
_LONG_FLOAT = 16
"""A float keeps up to 15 digits, with a sign or a point; for more, the float's own digits are compared."""


class OtherTypesError(Exception):
    """A value is of another type than its column seemed to have."""


@dataclass(frozen=True)
class Guess:
    """The types of some blocks, as long as no later value has another one.

    Attributes:
        schema: The types.
    """

    schema: pl.Schema
    _kinds: Mapping[str, _Kind]

    def cast(self, text: pl.DataFrame) -> pl.DataFrame:
        """Cast a block of strings, and check that its values do not change the inferred types.

        Raises:
            OtherTypesError: They do.
        """
        typed, fitting = _read({column: self._kinds[column] for column in text.columns}, text)
        for column in text.columns:
            if column not in fitting:
                values = column_of(text, column).drop_nulls()
                kind = self._kinds[column]
                if not values.is_empty() and (kind not in _SPELLINGS or not _all_spelled_as(kind, values)):
                    raise OtherTypesError
                typed = typed.with_columns(cast_block(text[[column]], pl.Schema({column: _DTYPES[kind]})))
        return typed


def infer(blocks: Iterable[pl.DataFrame]) -> Guess:
    """Infer the types of all columns in one pass over blocks of string columns, null for an empty field.

    Returns:
        For each column Boolean, Int64, Float64, Date, Datetime in µs or ns (in UTC if values have an offset), or
        String; String for a column without any value.
    """
    kinds: dict[str, _Kind] = {}
    for block in blocks:
        _, fitting = _read({column: kinds.get(column, _Kind.EMPTY) for column in block.columns}, block)
        for column in block.columns:
            kind = kinds.setdefault(column, _Kind.EMPTY)
            if column not in fitting:
                kinds[column] = _widened(kind, column_of(block, column).drop_nulls())
    return Guess(pl.Schema({column: _DTYPES[kind] for column, kind in kinds.items()}), kinds)


def _read(kinds: Mapping[str, _Kind], block: pl.DataFrame) -> tuple[pl.DataFrame, set[str]]:
    """Cast all columns at once, and tell which have all of their values in the spelling of their type.

    Columns that need a closer check may be missing among these.
    """
    fitting = {column for column, kind in kinds.items() if kind is _Kind.TEXT}
    texts = {column: column_of(block, column) for column in kinds}
    casts = {
        column: cast_of(_DTYPES[kind], spelling_of(_DTYPES[kind], texts[column]) if kind > _Kind.FLOAT else "")
        for column, kind in kinds.items()
        if kind in _SPELLINGS
    }
    typed = transform(block, {column: cast.usual for column, cast in casts.items()})
    for column, cast in casts.items():
        text, values = texts[column], column_of(typed, column)
        if kinds[column] is _Kind.FLOAT and values.null_count() == text.null_count():
            # What Polars writes as pandas does is no more to be looked at.
            text, values = _written_otherwise(text, values)
        if text.is_empty() or (cast.fits(text, values) and _is_spelled(kinds[column], cast, text, values)):
            fitting.add(column)
    return typed, fitting


def _is_spelled(kind: _Kind, cast: Cast, text: pl.Series, typed: pl.Series) -> bool:
    """Tell whether texts that were cast without a change have the spelling of their type."""
    if kind is _Kind.BOOLEAN:
        return True
    if kind in (_Kind.INTEGER, _Kind.WIDE_INTEGER):
        short = kind is _Kind.WIDE_INTEGER or bool((typed.abs() < 10**_EXACT_DIGITS).all())
        return short and not (text == "-0").any()
    if cast.alike:
        # All have the shape of the first one, so only the year is left to check.
        shape = text.drop_nulls().head(1).str.contains(_SPELLINGS[kind]).all()
        return shape and not (kind in _NEAR and _beyond_nanoseconds(text).any())
    return bool(text.str.contains(_SPELLINGS[kind]).all()) and (kind is not _Kind.FLOAT or _keeps_digits(text))


def _written_otherwise(text: pl.Series, numbers: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The texts and numbers that Polars writes in another way; without exponents it writes as pandas does."""
    number = pl.col("number")
    without_exponent = number.abs().is_between(1e-4, 1e16, closed="left") | (number == 0.0)
    alike = without_exponent & (number.cast(pl.String) == pl.col("text"))
    other = pl.DataFrame({"text": text, "number": numbers}).filter(alike.not_())
    return column_of(other, "text"), column_of(other, "number")


def _widened(kind: _Kind, values: pl.Series) -> _Kind:
    if values.is_empty():
        return kind
    for wider in _WIDER[kind]:
        # Most types are ruled out by few values.
        if _all_spelled_as(wider, values.head(_FEW)) and _all_spelled_as(wider, values):
            return wider
    return _Kind.TEXT


def _all_spelled_as(kind: _Kind, values: pl.Series) -> bool:
    if not values.str.contains(_SPELLINGS[kind]).all():
        return False
    if kind is _Kind.FLOAT and not _keeps_digits(values):
        return False
    if kind in (_Kind.BOOLEAN, _Kind.INTEGER):
        return True
    try:
        # 2024-02-30 is spelled as a date, and 9999999999999999999 as an integer.
        cast_block(values.to_frame(), pl.Schema({values.name: _DTYPES[kind]}))
        if kind in _NEAR:
            cast_block(values.filter(_beyond_nanoseconds(values)).to_frame(), pl.Schema({values.name: _NEAR[kind]}))
    except CastError:
        return False
    return True


def _beyond_nanoseconds(text: pl.Series) -> pl.Series:
    """Tell which texts are in a year that nanoseconds do not cover completely."""
    first, end = NANOSECOND_YEARS
    return (text < first) | (text >= end)


def _keeps_digits(values: pl.Series) -> bool:
    """Tell whether floats keep the digits of texts that are written as pandas writes floats, and are finite."""
    long = values.filter((values.str.len_bytes() > _LONG_FLOAT) | values.str.contains("e", literal=True))
    numbers = long.cast(pl.Float64)
    if (numbers.is_infinite() & ~long.str.ends_with("inf")).any():
        return False
    # Polars writes most numbers as pandas does.
    other = long.filter(numbers.cast(pl.String) != long)
    return bool((digits_of(other.cast(pl.Float64).cast(pl.String)) == digits_of(other)).all())
