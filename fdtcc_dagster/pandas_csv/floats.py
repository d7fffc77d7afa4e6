"""Finds texts that reading as floats would change: see docs/adr/0024-floats-keep-their-digits.md."""

from __future__ import annotations

import math
import typing
from decimal import Decimal

import polars as pl
from polars.datatypes import DataType

_KEPT_DIGITS: dict[DataType, int] = {pl.Float32(): 6, pl.Float64(): 15}
"""How many digits of any number a float keeps, unless it is too small or too large for the type."""
_SMALLEST: dict[DataType, float] = {pl.Float32(): 2.0**-126, pl.Float64(): 2.0**-1022}
"""Smaller floats have fewer digits; even smaller numbers become 0."""
_ALL_DIGITS = 800
"""No float has more digits, written out exactly."""


def first_changed(text: pl.Series, numbers: pl.Series) -> int | None:
    """Find the first text that its float does not keep; None if all are kept.

    A text is kept if the float, rounded to as many digits as the text has, is the number of the text. This holds for
    all floats that were written with enough digits to be read again, as pandas writes them.

    Args:
        text: Strings.
        numbers: The floats that Polars read from them; null if it could not.
    """
    kept, smallest = _KEPT_DIGITS[numbers.dtype], _SMALLEST[numbers.dtype]
    doubtful = _doubtful(text, numbers, kept, smallest)
    if not doubtful.any():
        return None
    # Polars writes most floats as pandas does.
    written = numbers.cast(pl.String)
    alike = written == text
    if alike.all():
        return None
    frame = pl.DataFrame({"text": text, "number": numbers, "written": written})
    rows = frame.with_row_index("row").filter(doubtful & ~alike)
    # pandas writes e-07 and Polars e-7; of all other texts, digits are compared.
    rows = rows.filter(rows["written"].str.replace("e-", "e-0", literal=True) != rows["text"])
    rows = rows.with_columns(digits_of(rows["text"]).alias("digits"))
    # A Float32 may be written with the digits of a Float64.
    for width in (numbers.dtype, pl.Float64()):
        rows = rows.filter(rows["digits"] != digits_of(rows["number"].cast(width).cast(pl.String)))
    is_normal = rows["number"].is_finite() & (rows["number"].abs() >= smallest)
    rows = rows.filter(~(is_normal & (rows["digits"].str.len_bytes() <= kept)))
    return next((row for row, *given in rows.select("row", "text", "number").iter_rows() if _is_changed(*given)), None)


def _doubtful(text: pl.Series, numbers: pl.Series, kept: int, smallest: float) -> pl.Series:
    """Tell which texts may be changed: long ones, and those of very small or infinite numbers."""
    doubtful, size = text.str.len_bytes() > kept, numbers.abs()
    least, most = typing.cast("tuple[float | None, float | None]", (size.min(), size.max()))
    if least is not None and least < smallest:
        doubtful |= (size < smallest) & (text != "0.0")
    if most == math.inf:
        doubtful |= numbers.is_infinite()
    return doubtful


def digits_of(numbers: pl.Series) -> pl.Series:
    """The significant digits of numbers as text, without sign, point, exponent and the zeros around them."""
    return numbers.str.replace("[eE].*$", "").str.replace_all("[-.]", "").str.strip_chars("0")


def _is_changed(text: str, number: float) -> bool:
    if math.isnan(number):
        return False
    digits = text.lower().partition("e")[0].replace("-", "").replace(".", "").strip("0")
    if number == 0 or math.isinf(number):
        return bool(digits) and text not in ("inf", "-inf")
    return Decimal(f"{number:.{min(len(digits), _ALL_DIGITS) - 1}e}") != Decimal(text)
