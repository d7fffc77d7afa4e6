"""Why a value does not fit its declared type, where that is not plain to see, and which type it would fit."""

from __future__ import annotations

import re

import polars as pl
from polars.datatypes import DataType

from fdtcc_dagster.pandas_csv.inference import infer
from fdtcc_dagster.pandas_csv.schema import dtype_name

_IDENTIFIER = re.compile(r"[+]\d.*|-?0\d.*")
_INTEGER = re.compile(r"(-?\d+)")
_WHOLE = re.compile(r"(-?\d+)[.]0")
_NUMBER = re.compile(r"-?\d*[.]?\d+(?:[eE][+-]?\d+)?")
_DECIMALS = re.compile(r"-?(\d+)(?:[.](\d+))?")
_DAY_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*")
_EXACT = {"Float64": (53, 15), "Float32": (24, 6)}
"""Up to which power of two a float holds every integer, and how many digits it keeps of any number."""
_MOST_DIGITS = 38


def why_not(text: str, dtype: DataType) -> str:
    """Why a text that looks like a value of a type is none; empty where that is plain to see."""
    if (dtype.is_integer() or dtype.is_float()) and _IDENTIFIER.fullmatch(text):
        return "a number would lose its plus or leading zero"
    if dtype.is_integer():
        return _no_integer(text, dtype_name(dtype))
    if dtype.is_float() and _NUMBER.fullmatch(text):
        name = dtype_name(dtype)
        bits, digits = _EXACT[name]
        return f"a {name} keeps {digits} digits of any number, and every integer up to 2^{bits} ({2**bits:,})"
    if isinstance(dtype, pl.Decimal) and _DECIMALS.fullmatch(text):
        return f"it has more than {dtype.scale} digits behind its point, or more than {dtype.precision} altogether"
    if isinstance(dtype, pl.Boolean):
        return "pandas writes True and False"
    if isinstance(dtype, pl.Date) and _DAY_AND_TIME.fullmatch(text):
        return "it has a time of day"
    if isinstance(dtype, pl.Datetime) and _DAY_AND_TIME.fullmatch(text):
        reach = ", or a year beyond 1678 to 2261" if dtype.time_unit == "ns" else ""
        return f"there is no such time, or it has more digits than {dtype.time_unit}{reach}"
    return ""


def _no_integer(text: str, name: str) -> str:
    number = _WHOLE.fullmatch(text) or _INTEGER.fullmatch(text)
    if number is None:
        return ""
    if text.endswith(".0") and abs(int(number[1])) >= 2**53:
        return f"pandas had it as a float, and from 2^53 ({2**53:,}) on a float may be another integer"
    bits = int(re.sub(r"\D", "", name))
    low, high = (0, 2**bits - 1) if name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return f"it is not between {low:,} and {high:,}"


def type_for(text: str, dtype: DataType) -> str:
    """A type that the text fits, for an error: of what a number would lose, String takes everything."""
    if dtype.is_float() and _NUMBER.fullmatch(text) and not _IDENTIFIER.fullmatch(text):
        return "Decimal or String, which keep all digits"
    if isinstance(dtype, pl.Decimal) and (number := _DECIMALS.fullmatch(text)):
        scale = max(dtype.scale, len(number[2] or ""))
        precision = max(dtype.precision or _MOST_DIGITS, scale + len(number[1]))
        return f"Decimal({precision}, {scale})" if precision <= _MOST_DIGITS else "String"
    if _WHOLE.fullmatch(text):
        return "String"
    fitting = infer([pl.DataFrame({"": [text]})]).schema[""]
    return "String" if fitting == dtype else dtype_name(fitting)
