"""A CSV snapshot as a typed LazyFrame, streamed block by block and checked to its last row."""

from __future__ import annotations

import copy
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import polars as pl
from polars.datatypes import DataType

from fdtcc_dagster.errors import FdtccError, SchemaMismatchError
from fdtcc_dagster.evidence import Evidence, is_lossy, lost_rows
from fdtcc_dagster.interrupts import stoppable
from fdtcc_dagster.pandas_csv.blocks import MAX_RECORD_BYTES, LongRecordError, Readable, record_blocks, split_header
from fdtcc_dagster.pandas_csv.cast import Misfit, cast_block
from fdtcc_dagster.pandas_csv.header import ColumnsError, check_columns
from fdtcc_dagster.pandas_csv.inference import OtherTypesError, infer
from fdtcc_dagster.pandas_csv.parallel import in_order
from fdtcc_dagster.pandas_csv.records import RecordReader, UnreadableError
from fdtcc_dagster.pandas_csv.typed import TypedCsv
from fdtcc_dagster.redaction import excerpt, quoted, redact
from fdtcc_dagster.window import Window

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_KEEPS_DIGITS = "Decimal or String, which keep all digits"
"""What is a number, but none that the declared float keeps."""
_PANICKED = (
    "Polars panicked while it read or stored the rows, which is a defect of its version: install another one, and look "
    "for unusual names of columns, such as with a NUL character"
)

_raised: deque[FdtccError] = deque(maxlen=64)


@dataclass(frozen=True)
class CsvSource:
    """A CSV file in pandas' dialect, and what is known of it.

    Attributes:
        opener: Opens the file at its beginning.
        announced_rows: How many rows it must have, or None where nobody said so.
        dataset: The dataset's name, for error messages.
        window: The window, for error messages.
        sha256: The pointer of a snapshot that the container recorded; None for any other CSV, which may have no rows.
        evidence: Told how many rows such a snapshot has, each time that all were read.
        is_certain: Whether the number that was announced is surely that of this snapshot.
        max_record_bytes: How many bytes a record may have.
    """

    opener: Callable[[], AbstractContextManager[Readable]]
    announced_rows: int | None = None
    dataset: str | None = None
    window: Window | None = None
    sha256: str | None = None
    evidence: Evidence | None = None
    is_certain: bool = True
    max_record_bytes: int = MAX_RECORD_BYTES

    def scan(self, schema: pl.Schema | None = None) -> pl.LazyFrame:
        """Give the typed rows; the arguments and errors are those of `typed` and of what it returns."""
        return self.typed(schema).scan()

    def collect(self, overrides: Mapping[str, DataType]) -> pl.DataFrame:
        """Read all rows, with inferred types but for some columns; the errors are those of `scan` and its result."""
        with self._named(), source_errors():
            return self.typed(overrides=overrides).scan().collect()

    def typed(self, schema: pl.Schema | None = None, overrides: Mapping[str, DataType] | None = None) -> TypedCsv:
        """Give all columns their types; nothing but the header is read where they are declared.

        Args:
            schema: The types of all columns. None: they are inferred, in a pass of its own over the whole file now.
            overrides: Types of some columns, where `schema` is None.

        Returns:
            The file and its types.

        Raises:
            SchemaMismatchError: The columns are not those of the schema, or the file has no header.
        """
        self._check_header(schema)
        return self._with(self._inferred(overrides or {}) if schema is None else schema)

    def read(self, schema: pl.Schema | None, use: Callable[[TypedCsv], Result]) -> Result:
        """Have all rows read, in one pass even where types are inferred.

        Inferred types are those of the first block until a later one shows that the whole file has others. Then all of
        it begins again, with the types of the whole file.

        Args:
            schema: The types of all columns, or None to infer them.
            use: Reads the rows to their end, and leaves nothing behind when it fails. It is called once or twice.

        Returns:
            What it returned.

        Raises:
            SchemaMismatchError: As for `typed`.
            Exception: What `use` raised.
        """
        with self._named():
            return self._read(schema, use)

    def _read(self, schema: pl.Schema | None, use: Callable[[TypedCsv], Result]) -> Result:
        if schema is not None:
            return use(self.typed(schema))
        self._check_header(None)
        with self._reader() as reader:
            guess = infer(self._located(map(reader.read, islice(reader.blocks, 1))))
        wrong = threading.Event()

        def cast(text: pl.DataFrame) -> pl.DataFrame:
            try:
                return guess.cast(text)
            except OtherTypesError:
                wrong.set()
                raise

        try:
            return use(TypedCsv(self, guess.schema, cast))
        except Exception:
            # Whatever has become of that error on its way.
            if not wrong.is_set():
                raise
        return use(self.typed())

    def frames(self, cast: Callable[[pl.DataFrame], pl.DataFrame], n_rows: int | None = None) -> Iterator[pl.DataFrame]:
        """Give the rows, block by block.

        Args:
            cast: Casts a block of string columns.
            n_rows: How many rows are wanted; all if None.

        Yields:
            Frames of some ten thousand rows, in order.

        Raises:
            SchemaMismatchError: A value does not fit, or the file cannot be read.
            RowCountMismatchError: At the end, when the file has another number of rows than announced.
        """
        return stoppable(self._remembering(self._typed(cast, n_rows)))

    def _with(self, schema: pl.Schema) -> TypedCsv:
        return TypedCsv(self, schema, lambda text: cast_block(text, pl.Schema({c: schema[c] for c in text.columns})))

    @contextmanager
    def _opened(self) -> Iterator[Readable]:
        try:
            opened = self.opener()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self._where}the snapshot's CSV is gone: its rows must be stored or collected while it exists; "
                "an IO manager has to store them when it handles the output"
            ) from error
        with opened as file:
            yield file

    @contextmanager
    def _reader(self) -> Iterator[RecordReader]:
        with self._opened() as file:
            yield RecordReader(file, self.max_record_bytes)

    def _check_header(self, schema: pl.Schema | None) -> None:
        with self._opened() as file:
            try:
                header, _ = split_header(next(record_blocks(file, 1 << 16, longest=self.max_record_bytes), b""))
                check_columns(header, schema)
            except ColumnsError as error:
                raise self._mismatch(str(error), column=error.column) from None
            except LongRecordError as error:
                raise self._mismatch(str(error)) from error
            except ValueError as error:
                raise self._mismatch(f"{error}; the dataset may be empty or not a table") from error

    def _inferred(self, overrides: Mapping[str, DataType]) -> pl.Schema:
        with self._reader() as reader:
            schema = infer(self._located(in_order(reader.read, reader.blocks, len))).schema
        for column, dtype in overrides.items():
            if column in schema:
                schema[column] = dtype
            else:
                logger.warning("dataset %r has no column %r, whose type is overridden", self.dataset, column)
        return schema

    def _typed(self, cast: Callable[[pl.DataFrame], pl.DataFrame], n_rows: int | None) -> Iterator[pl.DataFrame]:
        rows = 0
        with self._reader() as reader:
            for frame in self._located(_cast(reader, cast, n_rows)):
                rows += frame.height
                yield frame
        if n_rows is not None and rows >= n_rows:
            return
        self._check_count(rows)

    def _check_count(self, rows: int) -> None:
        lossy = is_lossy(self.announced_rows, rows)
        if self.sha256 is not None and self.evidence is not None and (self.is_certain or not lossy or rows == 0):
            self.evidence.count(self.sha256, self.announced_rows, rows)
            if not self.is_certain and not lossy and self.window is not None:
                self.evidence.settle(self.window)
        if not self.is_certain and lossy and self.evidence is not None and self.window is not None:
            self.evidence.contradict(self.window)
        # A CSV that is none of the container's may have no rows.
        if lossy and (rows or self.announced_rows or self.sha256):
            raise lost_rows(
                self.dataset, self.window, self.sha256, self.announced_rows, rows, rejected=self.is_certain or rows == 0
            )

    def _located(self, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Pass blocks on, and say of what is wrong in one in which row of the file it is."""
        rows = 0
        try:
            for frame in frames:
                rows += frame.height
                yield frame
        except UnreadableError as error:
            if error.row is None:
                raise self._mismatch(f"the CSV cannot be read after row {rows}: {error.reason}") from error
            raise self._mismatch(f"row {rows + error.row} {error.reason}", row=rows + error.row) from error
        except LongRecordError as error:
            raise self._mismatch(str(error)) from error
        except Misfit as misfit:
            row = rows + misfit.row + 1
            raise self._mismatch(
                f"column {quoted(misfit.column)}, row {row}: {misfit.value[:100]!r} is not a {excerpt(misfit.dtype)}; "
                "declare another type for the column, such as "
                f"{_KEEPS_DIGITS if misfit.dtype.is_float() else 'String'}",
                column=misfit.column,
                row=row,
                value=misfit.value,
            ) from None
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            # Without a cause: its text may have values in it.
            failed = f"Polars cannot read it ({type(error).__name__})"
            raise self._mismatch(f"the CSV cannot be read after row {rows}: {failed}") from None

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Let errors of `source_errors` name the dataset and the window."""
        try:
            yield
        except SchemaMismatchError as error:
            if error.dataset is not None or self.dataset is None:
                raise
            raise self._mismatch(str(error)) from None
        except pl.exceptions.PanicException:
            raise self._mismatch(_PANICKED) from None

    def _remembering(self, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        try:
            yield from frames
        except FdtccError as error:
            # A copy has no traceback, whose frames would keep the blocks alive.
            _raised.append(copy.copy(error))
            raise

    @property
    def _where(self) -> str:
        return "" if self.dataset is None else f"dataset {self.dataset!r}, window {self.window}: "

    def _mismatch(
        self, text: str, *, column: str | None = None, row: int | None = None, value: str | None = None
    ) -> SchemaMismatchError:
        return SchemaMismatchError(
            f"{self._where}{redact(text)}",
            dataset=self.dataset,
            window=self.window,
            column=column,
            row=row,
            value=value,
        )


def _cast(
    reader: RecordReader, cast: Callable[[pl.DataFrame], pl.DataFrame], n_rows: int | None
) -> Iterator[pl.DataFrame]:
    if n_rows is None:
        yield from in_order(lambda block: cast(reader.read(block)), reader.blocks, len)
        return
    # What comes after the rows that are wanted is not looked at.
    for block in reader.blocks:
        frame = cast(reader.read(block).head(n_rows))
        yield frame
        n_rows -= frame.height
        if n_rows <= 0:
            return


@contextmanager
def source_errors() -> Iterator[None]:
    """Let the typed errors of a scanned snapshot through as they are.

    Polars 2 does so by itself; Polars 1 wraps what a Python source raises in a `ComputeError` that keeps its text. What
    Polars itself fails with may be no `Exception`, which nobody expects.
    """
    try:
        yield
    except pl.exceptions.ComputeError as wrapped:
        for error in reversed(_raised):
            if str(error) in str(wrapped):
                raise error from None
        raise
    except pl.exceptions.PanicException:
        raise SchemaMismatchError(_PANICKED) from None
