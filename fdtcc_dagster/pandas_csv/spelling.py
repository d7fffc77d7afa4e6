"""Finds how texts are spelled, for whole columns without matching each text.

A regular expression costs more than the cast that it guards. Texts of the same shape, as pandas writes timestamps, are
compared byte by byte instead, for the whole column at once.
"""

from __future__ import annotations

from functools import lru_cache

import polars as pl

_TILED_BYTES = 2 << 20


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
