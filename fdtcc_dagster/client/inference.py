"""Types inferred over a whole CSV, never over its first rows.

A column gets the narrowest type of which every one of its values is written just as pandas writes that type (S20).
So an identifier keeps its spelling as a string: `007`, `1.10`, `3E7`, `1e5`, or digits beyond 64 bits.

The container writes large datasets batch by batch (S18), so one column may be integers in one batch and `1.0` in
another, or dates in one and datetimes in another: such columns are floats, of integers up to 15 digits, and datetimes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

import polars as pl
from polars.datatypes import DataType

from fdtcc_dagster.client.casting import NANOSECOND_YEAR, Misfit, cast_block, cast_of


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
_CLOCK = r"[ T]\d\d:\d\d:\d\d"
# A far date or datetime must not meet nanoseconds in its column.
_NEAR_DAY = rf"{NANOSECOND_YEAR}-\d\d-\d\d"
_OFFSET = r"(?:[+-]\d\d:\d\d|Z)"
# A float holds 15 digits exactly; a longer integer must not meet a fraction in its column.
_EXACT_INTEGER = r"0|-?[1-9]\d{0,14}"
# Exponents are of at least 2 digits, and stand only where the number has more than 16 digits or 4 leading zeros.
_EXPONENT = r"e(?:\+(?:1[6-9]|[2-9]\d|[1-3]\d\d)|-(?:0[5-9]|[1-9]\d|[1-3]\d\d))"
_FRACTION = rf"0\.0{{0,3}}[1-9]|0\.0{{0,3}}[1-9]\d*[1-9]|[1-9]\d{{0,15}}\.\d*[1-9]|[1-9](?:\.\d*[1-9])?{_EXPONENT}"
_SPELLINGS: dict[_Kind, str] = {
    _Kind.BOOLEAN: r"^(?:True|False)$",
    _Kind.INTEGER: rf"^(?:{_EXACT_INTEGER})$",
    _Kind.WIDE_INTEGER: r"^(?:0|-?[1-9]\d{0,18})$",
    _Kind.FLOAT: rf"^(?:{_EXACT_INTEGER}|-?(?:(?:0|[1-9]\d{{0,15}})\.0|{_FRACTION}|inf))$",
    _Kind.DATE: rf"^{_NEAR_DAY}$",
    _Kind.FAR_DATE: rf"^{_DAY}$",
    _Kind.DATETIME: rf"^{_NEAR_DAY}(?:{_CLOCK}(?:\.\d{{1,6}})?)?$",
    _Kind.FAR_DATETIME: rf"^{_DAY}(?:{_CLOCK}(?:\.\d{{1,6}})?)?$",
    _Kind.FINE_DATETIME: rf"^{_NEAR_DAY}(?:{_CLOCK}(?:\.\d{{1,9}})?)?$",
    _Kind.ZONED_DATETIME: rf"^{_NEAR_DAY}{_CLOCK}(?:\.\d{{1,6}})?{_OFFSET}$",
    _Kind.FAR_ZONED_DATETIME: rf"^{_DAY}{_CLOCK}(?:\.\d{{1,6}})?{_OFFSET}$",
    _Kind.FINE_ZONED_DATETIME: rf"^{_NEAR_DAY}{_CLOCK}(?:\.\d{{1,9}})?{_OFFSET}$",
}
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
"""What a column may become when a value does not fit what it is: every earlier value fits there too."""
_FEW = 64
_LONG_FLOAT = 16
"""Up to 15 digits, with a sign or a point, are kept by a float; of more, the float's own digits tell."""


def infer_schema(blocks: Iterable[pl.DataFrame]) -> pl.Schema:
    """Infer the types of all columns in one pass.

    Args:
        blocks: The whole CSV as blocks of string columns, null where a field is empty.

    Returns:
        For each column Boolean, Int64, Float64, Date, Datetime in µs or ns (in UTC where values have an offset), or
        String; String for a column without any value.
    """
    kinds: dict[str, _Kind] = {}
    for block in blocks:
        fitting = _that_fit(kinds, block)
        for column in block.columns:
            kind = kinds.get(column, _Kind.EMPTY)
            if kind is not _Kind.TEXT and column not in fitting:
                kinds[column] = _widened(kind, block[column].drop_nulls())
    return pl.Schema({column: _DTYPES[kind] for column, kind in kinds.items()})


def _that_fit(kinds: Mapping[str, _Kind], block: pl.DataFrame) -> set[str]:
    """The columns of which all values are what the column is, found for all columns at once.

    Columns that need a closer look may be missing.
    """
    columns = {column: kind for column, kind in kinds.items() if kind in _SPELLINGS}
    if not columns or block.is_empty():
        return set()
    casts = {column: cast_of(_DTYPES[kind], block[column]) for column, kind in columns.items()}
    spelled = {column: pl.col(column).str.contains(_SPELLINGS[kind]).all() for column, kind in columns.items()}
    missing = {f"{column}\0missing": cast.usual(pl.col(column)).is_null().sum() for column, cast in casts.items()}
    seen = block.select(**spelled, **missing).row(0, named=True)
    return {
        column
        for column, kind in columns.items()
        if seen[column]
        and seen[f"{column}\0missing"] == block[column].null_count()
        and (kind is not _Kind.FLOAT or _keeps_digits(block[column].drop_nulls()))
    }


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
    except Misfit:
        return False
    return True


def _keeps_digits(values: pl.Series) -> bool:
    """Say whether floats keep the digits of numbers that are written as pandas writes floats, and are finite."""
    long = values.filter((values.str.len_bytes() > _LONG_FLOAT) | values.str.contains("e", literal=True))
    numbers = long.cast(pl.Float64)
    if (numbers.is_infinite() & ~long.str.ends_with("inf")).any():
        return False
    # Polars writes most numbers as pandas does.
    other = long.filter(numbers.cast(pl.String) != long)
    return bool((_digits(other.cast(pl.Float64).cast(pl.String)) == _digits(other)).all())


def _digits(numbers: pl.Series) -> pl.Series:
    """The digits that count, without sign, point, exponent and the zeros around them."""
    return numbers.str.replace("e.*$", "").str.replace_all("[-.]", "").str.strip_chars("0")
