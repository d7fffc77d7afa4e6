"""Quotes that pandas never writes: the parser would drop them, or take them for text, without an error."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

_QUOTE = ord('"')
_BEFORE_OPENING = [ord(byte) for byte in ',\n"']
_AFTER_CLOSING = [ord(byte) for byte in ',\n\r"']
# A field with doubled quotes is a chain of quoted pieces. The number that is matched at once is limited, because the
# expression needs memory for each.
_QUOTED = re.compile(rb'(?:(?<![^,\n"])"[^"]*"(?![^,\n"\r])[^"]*){1,4096}')


@dataclass(frozen=True)
class Quotes:
    """The quotes of a block.

    Attributes:
        are_pandas: Whether each opens or closes a field, or is one of two inside a quoted field.
        may_quote_nothing: Whether a quoted field may be empty.
    """

    are_pandas: bool
    may_quote_nothing: bool


def count_bytes(data: bytes | memoryview, byte: bytes) -> int:
    """Count a byte; `bytes.count` takes four times as long if it is frequent."""
    return int((_numbers(data) == ord(byte)).sum())


def look_at_quotes(block: bytes) -> Quotes:
    """Check the bytes beside each quote, for all quotes at once.

    The first, third, … quote opens a quoted piece, the others close one: see `row_of_stray_quote`.
    """
    if b'"' not in block:
        return Quotes(are_pandas=True, may_quote_nothing=False)
    numbers = _numbers(block)
    is_quote = numbers == _QUOTE
    before = numbers.head(len(block) - 1).filter(is_quote.slice(1))
    after = numbers.slice(1).filter(is_quote.head(len(block) - 1))
    # Nothing precedes a quote at the beginning, and nothing follows one at the end.
    opening = before.gather_every(2, offset=1 if block.startswith(b'"') else 0)
    are_pandas = (
        is_quote.sum() % 2 == 0
        and _are_among(opening, _BEFORE_OPENING)
        and _are_among(after.gather_every(2, offset=1), _AFTER_CLOSING)
    )
    return Quotes(are_pandas, may_quote_nothing=bool((after.gather_every(2) == _QUOTE).any()))


def row_of_stray_quote(block: bytes) -> int | None:
    """Find a quote that neither opens nor closes a field, and is not one of two inside a quoted field.

    Returns:
        The 1-based number of the first record of the block with such a quote; None if there is none.
    """
    position = block.find(b'"')
    while position >= 0 and (matched := _QUOTED.match(block, position)):
        position = matched.end() if matched.end() < len(block) else -1
    return None if position < 0 else record_at(block, position)


def record_at(block: bytes, position: int) -> int:
    """The 1-based number of the record at a position; all quotes before it must be as pandas writes them."""
    # Newlines inside quotes do not end a record.
    return 1 + sum(piece.count(b"\n") for piece in block[:position].split(b'"')[::2])


def _numbers(data: bytes | memoryview) -> pl.Series:
    """View bytes as numbers, without a copy."""
    # Here, because it takes long: code locations load without it.
    import pyarrow as pa  # type: ignore[import-untyped]

    numbers = pl.from_arrow(pa.Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)]))
    assert isinstance(numbers, pl.Series)  # noqa: S101  for the type checker
    return numbers


def _are_among(numbers: pl.Series, allowed: list[int]) -> bool:
    found = numbers == allowed[0]
    for number in allowed[1:]:
        found |= numbers == number
    return bool(found.all())
