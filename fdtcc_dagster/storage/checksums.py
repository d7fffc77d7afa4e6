"""What a Parquet file says about itself: how many rows it was stored with, and the checksum of its bytes.

Both are in the file's key-value metadata, in the footer, and are known only when it has been written. So it is written
with zeros in their places. The checksum is the SHA-256 of the file with zeros in the checksum's own place.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO

_ROWS, _CHECKSUM = "fdtcc/rows", "fdtcc/checksum"
_ROWS_DIGITS, _CHECKSUM_DIGITS = 20, 64
_END_BYTES = 8
"""After the footer: its length, and `PAR1`."""
_BLOCK_BYTES = 1 << 20

PLACES: Mapping[str, str] = {_ROWS: "0" * _ROWS_DIGITS, _CHECKSUM: "0" * _CHECKSUM_DIGITS}
"""Key-value metadata for a file that is going to be completed by `complete`."""


def _place_of(name: str, digits: int) -> re.Pattern[bytes]:
    # In the footer (Thrift's compact protocol), a byte that says "string" is followed by the length and the bytes.
    return re.compile(re.escape(name.encode() + bytes((0x18, digits))) + rb"([0-9a-f]{%d})" % digits)


_ROWS_PLACE, _CHECKSUM_PLACE = _place_of(_ROWS, _ROWS_DIGITS), _place_of(_CHECKSUM, _CHECKSUM_DIGITS)


def complete(path: Path, rows: int) -> str:
    """Put the number of rows and the checksum into a file that was written with `PLACES`, and return the checksum.

    Raises:
        ValueError: The file was written without them.
        OSError: It cannot be read or written.
    """
    with path.open("r+b") as file:
        start, footer = _footer(file)
        if not _put(footer, _ROWS_PLACE, f"{rows:0{_ROWS_DIGITS}}"):
            raise ValueError(f"{path} has no place for its number of rows")
        checksum = _sha256(file, start, footer)
        if not _put(footer, _CHECKSUM_PLACE, checksum):
            raise ValueError(f"{path} has no place for its checksum")
        file.seek(start)
        file.write(footer)
    return checksum


def read_to_end(file: IO[bytes]) -> tuple[str | None, str]:
    """Read an open file to its end: the checksum that it says it has, if any, and the one that it has."""
    start, footer = _footer(file)
    said = _put(footer, _CHECKSUM_PLACE, "0" * _CHECKSUM_DIGITS)
    return said, _sha256(file, start, footer)


def rows_of(metadata: Mapping[str, str]) -> int | None:
    """The number of rows that a file was stored with, or None if its key-value metadata do not say it."""
    rows = metadata.get(_ROWS, "")
    return int(rows) if rows.isdecimal() else None


def checksum_of(metadata: Mapping[str, str]) -> str | None:
    """The checksum that a file was stored with, or None if its key-value metadata do not say it."""
    return metadata.get(_CHECKSUM)


def _footer(file: IO[bytes]) -> tuple[int, bytearray]:
    """Where a file's footer begins, and everything from there on."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_BYTES))
    length = int.from_bytes(file.read(4), "little")
    # One that is damaged may say anything.
    start = size - _END_BYTES - length if length + _END_BYTES <= size else size
    file.seek(start)
    return start, bytearray(file.read())


def _put(footer: bytearray, place: re.Pattern[bytes], value: str) -> str | None:
    """Put a value into its place, and return the one that was there; None if there is no such place."""
    # Names and statistics of columns, and what was given as provenance, come before it, and may look like it.
    every = list(place.finditer(footer))
    if not every:
        return None
    found = every[-1]
    before = found[1].decode()
    footer[slice(*found.span(1))] = value.encode()
    return before


def _sha256(file: IO[bytes], start: int, footer: bytearray) -> str:
    """The SHA-256 of a file up to its footer, and of a footer."""
    digest, left = hashlib.sha256(), start
    file.seek(0)
    while left and (block := file.read(min(left, _BLOCK_BYTES))):
        digest.update(block)
        left -= len(block)
    digest.update(footer)
    return digest.hexdigest()
