"""Blocks of CSV bytes in pandas' dialect (S20), as string columns."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from itertools import chain

import polars as pl

from fdtcc_dagster.client.arriving import Readable
from fdtcc_dagster.client.blocks import record_blocks, split_header


class UnreadableError(Exception):
    """A block is no table of the header's columns.

    Attributes:
        reason: What is wrong with it, as a verb and its object where the row is known.
        row: The 1-based row within the block, where it is known which.
    """

    def __init__(self, reason: str, row: int | None) -> None:
        super().__init__(reason, row)
        self.reason, self.row = reason, row


class RecordReader:
    """Reads the blocks of one CSV.

    Args:
        file: The CSV, at its beginning; its header is read now.

    Raises:
        ValueError: There is no header.
    """

    def __init__(self, file: Readable) -> None:
        blocks = record_blocks(file)
        head = next(blocks, b"")
        names, first = split_header(head)
        self._strings = pl.Schema({name: pl.String() for name in names})
        # Python's csv writes a carriage return as it is where it ends no line, and Polars drops it in front of a
        # comma or newline.
        self._return_at_risk = b"\r," if head[: len(head) - len(first)].endswith(b"\r\n") else b"\r"
        self.blocks: Iterator[bytes] = chain([first], blocks)
        """Blocks of whole records, in order; at least one, which may be empty."""

    def read(self, block: bytes) -> pl.DataFrame:
        """Read a block.

        Args:
            block: Whole records.

        Returns:
            A string column for each column of the header, null where a field is empty.

        Raises:
            UnreadableError: A record has too many or too few fields, or is no UTF-8.
        """
        if not block:
            return self._strings.to_frame()
        at_risk = self._return_at_risk
        stand_in = _absent_character(block) if at_risk in block else None
        source = block if stand_in is None else block.replace(at_risk, at_risk.replace(b"\r", stand_in.encode()))
        if block.startswith(codecs.BOM_UTF8):
            # Polars drops one at the beginning, which here is a value's own.
            source = codecs.BOM_UTF8 + source
        try:
            text = pl.read_csv(source, has_header=False, schema=self._strings, null_values="")
        except pl.exceptions.PolarsError as error:
            raise self._unreadable(block, str(error)) from error
        if stand_in is not None:
            text = text.with_columns(pl.all().str.replace_all(stand_in, "\r", literal=True))
        if not _is_complete(text, block):
            raise self._unreadable(block, "a record has too few fields")
        return text

    def _unreadable(self, block: bytes, reason: str) -> UnreadableError:
        width = len(self._strings)
        row, fields = _ragged_record(block, width)
        if row is None:
            return UnreadableError(reason, None)
        return UnreadableError(f"has {fields} fields where the header has {width}", row)


def _absent_character(block: bytes) -> str:
    return next(character for character in map(chr, range(0xE000, 0x110000)) if character.encode() not in block)


def _is_complete(text: pl.DataFrame, block: bytes) -> bool:
    """Tell whether every record has a field for every column: Polars fills the missing ones with nulls."""
    if text.width == 1:
        return True
    if block.startswith((b"\n", b"\r\n")):
        return False
    if text.to_series(-1).null_count() == 0:
        return True
    commas = text.height * (text.width - 1)
    if b'"' in block:
        commas += sum(text.select(pl.all().str.count_matches(",", literal=True).sum()).row(0))
    return block.count(b",") == commas


def _ragged_record(block: bytes, width: int) -> tuple[int, int] | tuple[None, None]:
    """The 1-based number within the block, and the number of fields, of the first record that has not `width`."""
    try:
        for row, record in enumerate(csv.reader(io.StringIO(block.decode(), newline="")), start=1):
            if len(record) != width:
                return row, len(record)
    except (csv.Error, UnicodeDecodeError):
        pass
    return None, None
