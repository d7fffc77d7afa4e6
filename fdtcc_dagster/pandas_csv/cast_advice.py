"""Why a value does not fit its declared type, where that is not plain to see, and which type it would fit.

This runs while an error is made, so it must not fail, or take long, for any text: regular expressions take linear time,
and integers are made only from few digits, because Python refuses to read one that has thousands.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import polars as pl
from polars.datatypes import DataType

from fdtcc_dagster.pandas_csv.cast import CastError, cast_block
from fdtcc_dagster.pandas_csv.inference import infer
from fdtcc_dagster.pandas_csv.schema import dtype_name

_IDENTIFIER = re.compile(r"[+]\d.*|-?0\d.*", re.ASCII)
_INTEGER = re.compile(r"-?(\d+)(?:[.]0)?", re.ASCII)
_FRACTION = re.compile(r"-?\d+[.]\d+", re.ASCII)
_NUMBER = re.compile(r"-?(?:\d+(?:[.]\d*)?|[.]\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_DECIMAL = re.compile(r"-?\d+(?:[.]\d+)?(?:E[+-]?\d{1,3})?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DAY_AND_TIME = re.compile(rf"{_DAY.pattern}[ T]\d\d:\d\d.*", re.ASCII)
_OFFSET = r"Z|[+-]\d\d:\d\d"
_TIMESTAMP = re.compile(rf"{_DAY.pattern}[ T]\d\d:\d\d:\d\d(?:[.]\d+)?({_OFFSET})?", re.ASCII)
_MOST_DIGITS = 38
_LONGEST = 1000
"""No longer text is advised another type than String."""


@dataclass(frozen=True)
class _Float:
    """What a float holds: every integer up to a power of two, and some digits of any number between two sizes."""

    bits: int
    digits: int
    smallest: float
    largest: float


_FLOATS = {
    "Float64": _Float(53, 15, sys.float_info.min, sys.float_info.max),
    "Float32": _Float(24, 6, 2.0**-126, (2 - 2.0**-23) * 2.0**127),
}


def why_not(text: str, dtype: DataType) -> str:
    """Why a text that looks like a value of a type is none; empty where that is plain to see."""
    if dtype.is_numeric() and _IDENTIFIER.fullmatch(text):
        return "a number would lose its plus or leading zero"
    if dtype.is_integer():
        return _no_integer(text, dtype_name(dtype))
    if dtype.is_float() and _NUMBER.fullmatch(text):
        return _no_float(float(text), dtype_name(dtype))
    if isinstance(dtype, pl.Decimal) and _DECIMAL.fullmatch(text):
        places = (dtype.precision or _MOST_DIGITS) - dtype.scale
        if _digits_around_point(text)[0] > places:
            return f"it has more than {places} digits before its point"
        return f"it has more than {dtype.scale} digits behind its point"
    if isinstance(dtype, pl.Boolean):
        return "pandas writes True and False"
    if isinstance(dtype, pl.Date) and _DAY.match(text) and not _takes(dtype, text[:10]):
        return "there is no such day"
    if isinstance(dtype, pl.Date) and _DAY_AND_TIME.fullmatch(text):
        return "it has a time of day"
    if isinstance(dtype, pl.Datetime) and _DAY_AND_TIME.fullmatch(text):
        return _no_datetime(text, dtype)
    return ""


def _no_integer(text: str, name: str) -> str:
    number = _INTEGER.fullmatch(text)
    if number is None:
        return ""
    if text.endswith(".0") and (len(number[1]) > len(str(2**53)) or int(number[1]) >= 2**53):
        return f"pandas had it as a float, and from 2^53 ({2**53:,}) on a float may be another integer"
    bits = int(re.sub(r"\D", "", name))
    low, high = (0, 2**bits - 1) if name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return f"it is not between {low:,} and {high:,}"


def _no_float(number: float, name: str) -> str:
    held = _FLOATS[name]
    if not held.smallest <= abs(number) <= held.largest:
        return f"it is beyond the range of a {name}, about {held.smallest:.1e} to {held.largest:.1e}"
    integers = f"every integer up to 2^{held.bits} ({2**held.bits:,})"
    return f"a {name} keeps {held.digits} digits of any number, and {integers}"


def _no_datetime(text: str, dtype: pl.Datetime) -> str:
    stamp = _TIMESTAMP.fullmatch(text)
    if stamp is None:
        return "pandas writes a time as 2026-01-05 04:00:00"
    if stamp[1] and not dtype.time_zone:
        return "it has an offset from UTC, and the type has no time zone"
    reach = ", or a year beyond 1678 to 2261" if dtype.time_unit == "ns" else ""
    return f"there is no such time, or it has more digits than {dtype.time_unit}{reach}"


def type_for(text: str, dtype: DataType) -> str:
    """A type that takes the text and is not the declared one, for an error; String takes everything."""
    if len(text) > _LONGEST:
        return "String"
    fitting = (other for other in _candidates(text, dtype) if other != dtype and _takes(other, text))
    return dtype_name(next(fitting, pl.String()))


def _candidates(text: str, dtype: DataType) -> Iterator[DataType]:
    """Types that may take the text; the best one first."""
    if dtype.is_integer() and _INTEGER.fullmatch(text):
        # Not a float, which may be another integer.
        yield pl.Int64()
        return
    if dtype.is_integer() and _FRACTION.fullmatch(text):
        yield pl.Float64()
    if isinstance(dtype, pl.Float32):
        yield pl.Float64()
    if (dtype.is_float() or isinstance(dtype, pl.Decimal)) and _DECIMAL.fullmatch(text):
        yield from _decimals(text, dtype)
    if isinstance(dtype, pl.Datetime) or _TIMESTAMP.fullmatch(text):
        yield from _datetimes(text, dtype)
    yield infer([pl.DataFrame({"": [text]})]).schema[""]


def _decimals(text: str, dtype: DataType) -> Iterator[DataType]:
    """The declared precision and scale, as far as they reach; for a float as many digits as possible."""
    declared = dtype if isinstance(dtype, pl.Decimal) else pl.Decimal(_MOST_DIGITS, 0)
    before, behind = _digits_around_point(text)
    # Zeros at the end may be left out.
    scale = max(declared.scale, min(behind, _MOST_DIGITS - before))
    precision = max(declared.precision or _MOST_DIGITS, before + scale)
    if precision <= _MOST_DIGITS:
        yield pl.Decimal(precision, scale)


def _digits_around_point(text: str) -> tuple[int, int]:
    """How many digits a decimal has before and behind its point if it is written without an exponent."""
    _, digits, exponent = Decimal(text).as_tuple()
    behind = max(0, -int(exponent))
    return max(0, len(digits) + int(exponent)), behind


def _datetimes(text: str, dtype: DataType) -> Iterator[DataType]:
    """The declared unit and zone first, as far as they are declared."""
    unit, zone = (dtype.time_unit, dtype.time_zone) if isinstance(dtype, pl.Datetime) else ("us", None)
    if zone is None and re.search(rf"(?:{_OFFSET})$", text):
        zone = "UTC"
    for each in dict.fromkeys((unit, "us", "ns")):
        yield pl.Datetime(each, zone)


def _takes(dtype: DataType, text: str) -> bool:
    try:
        cast_block(pl.DataFrame({"": [text]}), pl.Schema({"": dtype}))
    except CastError:
        return False
    return True
