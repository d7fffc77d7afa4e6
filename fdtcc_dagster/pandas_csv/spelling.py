"""Finds texts that a cast would change, for whole columns without matching each text.

A regular expression costs more than the cast that it guards. Texts of the same shape, as pandas writes timestamps, are
compared byte by byte instead, for the whole column at once. Which texts a float would change:
docs/adr/0024-floats-keep-their-digits.md.
"""

from __future__ import annotations

import math
import typing
from decimal import Decimal
from functools import lru_cache

import polars as pl
from polars.datatypes import DataType

_TILED_BYTES = 2 << 20
_KEPT_DIGITS: dict[DataType, int] = {pl.Float32(): 6, pl.Float64(): 15}
"""How many digits of any number a float keeps, unless it is too small or too large for the type."""
_SMALLEST: dict[DataType, float] = {pl.Float32(): 2.0**-126, pl.Float64(): 2.0**-1022}
"""Smaller floats have fewer digits; even smaller numbers become 0."""
_ALL_DIGITS = 800
"""No float has more digits, written out exactly."""


def are_within(text: pl.Series, low: str, high: str) -> bool:
    """Tell whether every character of every text lies between the characters of two ASCII texts in the same place.

    Args:
        text: Strings; nulls are ignored.
        low: The lowest character of each place.
        high: The highest character of each place; as long as `low`.
    """
    width = len(low)
    if not (text.str.len_bytes() == width).all():
        return False
    if not _reads_bytes():
        places = "".join(rf"[\x{ord(a):02x}-\x{ord(b):02x}]" for a, b in zip(low, high, strict=True))
        return bool(text.str.contains(f"^{places}$").all())
    given = text.to_frame().select(_bytes(pl.col(text.name).drop_nulls().cast(pl.Binary), width)).to_series()
    # In portions, so that the text they are compared with stays small.
    portion = _TILED_BYTES // width * width
    for start in range(0, len(given), portion):
        part = given.slice(start, portion)
        if (part < _tiled(low)[: len(part)]).any() or (part > _tiled(high)[: len(part)]).any():
            return False
    return True


def has_identifiers(text: pl.Series) -> bool:
    """Tell whether a text begins with a plus, or a zero and a digit: an identifier, which a number would change."""
    # Most numbers begin with another digit. Comparing texts is cheaper than matching them.
    rest = text.filter(text < "0:")
    if rest.is_empty():
        return False
    if (rest >= "00").any():
        return True
    signed = rest.filter(rest < ".")
    return not signed.is_empty() and bool(((signed < ",") | ((signed >= "-00") & (signed < "-0:"))).any())


def _bytes(texts: pl.Expr, width: int) -> pl.Expr:
    return texts.bin.reinterpret(dtype=pl.Array(pl.UInt8, width)).explode()


@lru_cache(maxsize=32)
def _tiled(text: str) -> pl.Series:
    """The bytes of a text, repeated."""
    count = _TILED_BYTES // len(text)
    return pl.select(_bytes(pl.lit(text.encode() * count), len(text) * count)).to_series()


@lru_cache(maxsize=1)
def _reads_bytes() -> bool:
    """Tell whether Polars can read bytes from binary values as numbers; older versions cannot."""
    try:
        return pl.select(_bytes(pl.lit(b"0"), 1)).to_series().to_list() == [ord("0")]
    except pl.exceptions.PolarsError:
        return False


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
