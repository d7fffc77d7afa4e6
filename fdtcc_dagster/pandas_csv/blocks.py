"""Cuts a stream of CSV bytes into blocks that end where a record ends, and checks the quotes of a block.

The parser would drop quotes that pandas never writes, or take them for text, without an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import polars as pl

BLOCK_BYTES = 8 << 20
"""The fixed cost of a block equals the casts of some hundred KB; larger blocks do not fit the processor's caches."""
MAX_RECORD_BYTES = 64 << 20
"""A record is held in memory as a whole; after a quote that is not closed, the rest of the file is one record."""
_QUOTE = ord('"')
_BEFORE_OPENING = [ord(byte) for byte in ',\n"']
_AFTER_CLOSING = [ord(byte) for byte in ',\n\r"']
# A field with doubled quotes is a chain of quoted pieces. The number that is matched at once is limited, because the
# expression needs memory for each.
_QUOTED = re.compile(rb'(?:(?<![^,\n"])"[^"]*"(?![^,\n"\r])[^"]*){1,4096}')


class Readable(Protocol):
    """A file from which a CSV is read."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read some bytes, at most as many as fit; none at the end."""


class LongRecordError(ValueError):
    """A record is longer than allowed."""


def record_blocks(
    stream: Readable, block_bytes: int = BLOCK_BYTES, *, longest: int = MAX_RECORD_BYTES
) -> Iterator[bytes]:
    """Cut a CSV stream at record ends.

    A newline ends a record if it is outside quotes: if the number of quote characters before it is even. pandas doubles
    quotes inside quoted fields, which does not change the parity.

    Args:
        stream: The CSV's bytes, from the beginning of a record.
        block_bytes: The largest size of a block in bytes, unless a record in it is longer.
        longest: The largest size of a record in bytes.

    Yields:
        Blocks of whole records, of fewer bytes than twice the longest record; the last one may lack its final newline.

    Raises:
        LongRecordError: A record has more bytes.
    """
    # One buffer for all: allocating memory costs more than reading into it.
    buffer = bytearray(min(block_bytes, longest))
    usual = len(buffer)
    filled = quotes = position = 0
    while size := _fill(stream, buffer, filled):
        end = _last_record_end(buffer, filled, filled + size, quoted=quotes % 2 == 1)
        if end == 0:
            quotes += _quotes_in(buffer, filled, filled + size)
            filled += size
            if filled == len(buffer):
                # A record that is longer than a block.
                if filled >= longest:
                    if not _fill(stream, bytearray(1), 0):
                        break
                    raise LongRecordError(
                        f"the record that begins at byte {position:,} has more than {longest:,} bytes: a quote in it "
                        "may lack the one that closes it; if that size is right, raise max_record_bytes"
                    )
                buffer.extend(bytes(min(len(buffer), longest - len(buffer))))
            continue
        with memoryview(buffer) as view:
            yield bytes(view[:end])
        position += end
        tail = buffer[end : filled + size]
        filled = len(tail)
        buffer[:filled] = tail
        quotes = tail.count(b'"')
        # What follows a long record comes in blocks of the usual size again.
        del buffer[max(usual, 2 * filled) :]
    if filled:
        yield bytes(buffer[:filled])


def _fill(stream: Readable, buffer: bytearray, start: int) -> int:
    """Fill a buffer from an index on, completely except at the end of the stream."""
    position = start
    with memoryview(buffer) as view:
        while position < len(view) and (size := stream.readinto(view[position:])):
            position += size
    return position - start


def _last_record_end(data: bytearray, start: int, stop: int, *, quoted: bool) -> int:
    """The index after the last newline outside quotes between two indices; 0 if there is none.

    The first index may be inside quotes.
    """
    end = data.rfind(b"\n", start, stop)
    inside = end >= 0 and (_quotes_in(data, start, end) + quoted) % 2 == 1
    while end >= 0 and inside:
        # The newline is inside quotes, which the nearest quote before it opens: search before that quote.
        opening = data.rfind(b'"', start, end)
        newline = data.rfind(b"\n", start, max(opening, start))
        inside = newline >= 0 and data.count(b'"', newline, opening) % 2 == 1
        end = newline
    return end + 1


def _quotes_in(data: bytearray, start: int, stop: int) -> int:
    with memoryview(data) as view, view[start:stop] as part:
        return count_bytes(part, b'"')


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
