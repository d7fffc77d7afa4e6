"""The header and the blocks of a CSV in pandas' dialect, as columns of strings.

If the header is missing, the first row is in its place, and nothing of it may be shown. So the names that were found
are shown only if at least half of the declared ones are among them: a row may contain one by coincidence.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain

import polars as pl

from fdtcc_dagster.errors import did_you_mean
from fdtcc_dagster.pandas_csv.blocks import (
    MAX_RECORD_BYTES,
    Readable,
    count_bytes,
    look_at_quotes,
    record_at,
    record_blocks,
    row_of_stray_quote,
)
from fdtcc_dagster.redaction import counted, listed

_BOM = "\ufeff"
_BARE_RETURN = re.compile(r"\r(?!\n)")


class ColumnsError(ValueError):
    """The columns of a CSV cannot be used, or are not the declared ones.

    Attributes:
        column: The name of one of them, unless it may be a row's value.
    """

    def __init__(self, message: str, column: str | None) -> None:
        super().__init__(message)
        self.column = column


class UnreadableError(Exception):
    """A block is not a table with the header's columns.

    Attributes:
        reason: What is wrong; a verb and its object if the row is known.
        row: The 1-based row within the block, if it is known.
    """

    def __init__(self, reason: str, row: int | None) -> None:
        super().__init__(reason, row)
        self.reason, self.row = reason, row


def split_header(block: bytes) -> tuple[list[str], bytes]:
    """Split the header off the first block.

    Args:
        block: A block of whole records.

    Returns:
        The column names, and the bytes after the header. Byte order marks before the first name are not part of it,
        inside its quotes or outside: they come from a file that was uploaded with one.

    Raises:
        ValueError: The header is missing, too long, not UTF-8, or has quotes that pandas never writes.
    """
    end = block.find(b"\n")
    while end >= 0 and block.count(b'"', 0, end) % 2:
        end = block.find(b"\n", end + 1)
    head, rest = (block, b"") if end < 0 else (block[:end], block[end + 1 :])
    try:
        text = head.decode().lstrip(_BOM)
    except UnicodeDecodeError:
        raise ValueError("the CSV's header is no UTF-8 text") from None
    if row_of_stray_quote(text.removesuffix("\r").encode()) is not None:
        raise ValueError("the CSV's header has a quote inside of a name, or one that nothing closes")
    if "\0" in text:
        # Python 3.10 cannot read it, and Polars 1 panics at such a name.
        raise ValueError("the CSV's header has a NUL character")
    try:
        records = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise ValueError(f"the CSV's header cannot be read: {error}") from None
    # A bare carriage return ends a record for Python.
    if len(records) != 1 or not records[0]:
        raise ValueError("the CSV has no header")
    first, *others = records[0]
    return [first.lstrip(_BOM), *others], rest


def check_columns(found: Sequence[str], schema: pl.Schema | None) -> None:
    """Check that column names are unique, and those of the schema if there is one.

    Raises:
        ColumnsError: They are not.
    """
    declared = [] if schema is None else list(schema)
    known = set(declared)
    is_header = bool(known) and 2 * len(known.intersection(found)) >= len(known)
    first: dict[str, int] = {}
    for number, name in enumerate(found, start=1):
        if (other := first.setdefault(name, number)) != number:
            named = f", {listed([name])}" if is_header else ""
            raise ColumnsError(
                f"columns {other} and {number} of the CSV have the same name{named}", name if is_header else None
            )
    if schema is None or known == first.keys():
        return
    missing, extra = [c for c in declared if c not in first], [c for c in found if c not in known]
    if is_header:
        differences = [f"missing {listed(missing)}"] if missing else []
        differences += [f"not declared {listed(extra)}"] if extra else []
        close = "".join(did_you_mean(name, extra) for name in missing[:1])
        raise ColumnsError(
            f"the CSV's columns are not those of the schema: {', '.join(differences)}; adapt the schema to the "
            f"dataset{close}",
            (missing or extra)[0],
        )
    raise ColumnsError(
        f"the CSV's columns are not those of the schema: missing {listed(missing)}, which are {len(missing)} of "
        f"{len(declared)}, and its first line has {counted(len(extra), 'other')}, which may be a row: adapt the "
        "schema, or have the dataset written with a header",
        missing[0],
    )


class RecordReader:
    """Reads the blocks of one CSV.

    Args:
        file: The CSV, at its beginning; its header is read now.
        max_record_bytes: The largest size of a record in bytes.

    Raises:
        ValueError: There is no header, or it is longer.
    """

    def __init__(self, file: Readable, max_record_bytes: int = MAX_RECORD_BYTES) -> None:
        blocks = record_blocks(file, longest=max_record_bytes)
        head = next(blocks, b"")
        names, first = split_header(head)
        self._strings = pl.Schema({name: pl.String() for name in names})
        # Python's csv does not quote a carriage return that does not end a line, and Polars drops it before a comma
        # or newline.
        self._return_at_risk = b"\r," if head[: len(head) - len(first)].endswith(b"\r\n") else b"\r"
        self.blocks: Iterator[bytes] = chain([first], blocks)
        """Blocks of whole records, in order; at least one, which may be empty."""

    def read(self, block: bytes) -> pl.DataFrame:
        """Read a block of whole records into a string column for each column of the header; an empty field is null.

        Raises:
            UnreadableError: A record has too many or too few fields, quotes that pandas never writes, or is not UTF-8.
        """
        if not block:
            return self._strings.to_frame()
        quotes = look_at_quotes(block)
        if not quotes.are_pandas:
            reason = "has a quote inside of a field, or one that nothing closes, while pandas doubles each"
            raise UnreadableError(reason, row_of_stray_quote(block))
        at_risk = self._return_at_risk
        stand_in = _absent_character(block) if at_risk in block else None
        source = block if stand_in is None else block.replace(at_risk, at_risk.replace(b"\r", stand_in.encode()))
        if block.startswith(codecs.BOM_UTF8):
            # Polars drops one at the beginning, which here belongs to a value.
            source = codecs.BOM_UTF8 + source
        try:
            # Without quotes an empty field is null anyway, and comparing each one takes time.
            empty = "" if quotes.may_quote_nothing else None
            text = pl.read_csv(source, has_header=False, schema=self._strings, null_values=empty)
        except pl.exceptions.PolarsError:
            # Without a cause: its text has the record in it.
            raise self._unreadable(block) from None
        if stand_in is not None:
            text = text.with_columns(pl.all().str.replace_all(stand_in, "\r", literal=True))
        if not _is_complete(text, block):
            raise self._unreadable(block)
        return text

    def _unreadable(self, block: bytes) -> UnreadableError:
        if (row := _undecodable_record(block)) is not None:
            return UnreadableError("is no UTF-8 text", row)
        width = len(self._strings)
        if (ragged := _ragged_record(block, width)) is None:
            return UnreadableError(f"its records are not of {counted(width, 'field')} as pandas writes them", None)
        row, fields = ragged
        return UnreadableError(f"has {counted(fields, 'field')} where the header has {width}", row)


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
    return count_bytes(block, b",") == commas


def _undecodable_record(block: bytes) -> int | None:
    """The 1-based number within the block of the first record that is not UTF-8."""
    try:
        block.decode()
    except UnicodeDecodeError as error:
        return record_at(block, error.start)
    return None


def _ragged_record(block: bytes, width: int) -> tuple[int, int] | None:
    """The 1-based number within the block of the first record without `width` fields, and how many it has."""
    try:
        # To Python, a bare carriage return ends a record, too.
        text = _BARE_RETURN.sub(" ", block.decode())
        for row, record in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
            if len(record) != width:
                return row, len(record)
    except (csv.Error, UnicodeDecodeError):
        pass
    return None
