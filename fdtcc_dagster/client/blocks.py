"""Cutting a stream of CSV bytes into blocks that end where a record ends."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from fdtcc_dagster.client.arriving import Readable

BLOCK_BYTES = 8 << 20


def record_blocks(stream: Readable, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Cut a CSV stream at record ends.

    A newline ends a record when it stands outside quotes: when the number of quote characters before it is even.
    pandas doubles quotes inside quoted fields, which leaves the parity as it is (S20).

    Args:
        stream: The CSV's bytes, from the beginning of a record.
        block_bytes: How many bytes to read at a time; a block holds about as many, or one longer record.

    Yields:
        Blocks of whole records; the last one may lack its final newline.
    """
    tail, quotes = b"", 0
    # A record longer than a block is read in ever larger pieces: it is copied again with each of them.
    while chunk := stream.read(max(block_bytes, len(tail))):
        end = _last_record_end(chunk, quotes % 2 == 1)
        if end == 0:
            quotes += chunk.count(b'"')
            tail += chunk
            continue
        yield b"".join((tail, memoryview(chunk)[:end]))
        tail = chunk[end:]
        quotes = tail.count(b'"')
    if tail:
        yield tail


def split_header(block: bytes) -> tuple[list[str], bytes]:
    """Take the header off the first block.

    Args:
        block: A block of whole records.

    Returns:
        The column names, and the bytes after the header.

    Raises:
        ValueError: The header is missing or is not UTF-8 text of a usual length.
    """
    end = block.find(b"\n")
    while end >= 0 and block.count(b'"', 0, end) % 2:
        end = block.find(b"\n", end + 1)
    head, rest = (block, b"") if end < 0 else (block[:end], block[end + 1 :])
    try:
        records = list(csv.reader(io.StringIO(head.decode("utf-8-sig"), newline="")))
    except csv.Error as error:
        raise ValueError(f"the CSV's header cannot be read: {error}") from error
    # A bare carriage return ends a record for Python.
    if len(records) != 1 or not records[0]:
        raise ValueError("the CSV has no header")
    return records[0], rest


def _last_record_end(chunk: bytes, quoted: bool) -> int:
    """The index after the last newline outside quotes; 0 if there is none. A chunk may begin inside them."""
    end = chunk.rfind(b"\n")
    inside = end >= 0 and (chunk.count(b'"', 0, end) + quoted) % 2 == 1
    while end >= 0 and inside:
        # The newline stands inside quotes, which the nearest quote before it opens: look further in front of that.
        opening = chunk.rfind(b'"', 0, end)
        newline = chunk.rfind(b"\n", 0, max(opening, 0))
        inside = newline >= 0 and chunk.count(b'"', newline, opening) % 2 == 1
        end = newline
    return end + 1
