"""A CSV snapshot as a typed LazyFrame, streamed block by block and checked to its last row."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import polars as pl
from polars.datatypes import DataType
from polars.io.plugins import register_io_source

from fdtcc_dagster.errors import FdtccError
from fdtcc_dagster.evidence import Evidence, is_lossy, lost_rows
from fdtcc_dagster.interrupts import stoppable
from fdtcc_dagster.pandas_csv.blocks import MAX_RECORD_BYTES, LongRecordError, Readable, record_blocks
from fdtcc_dagster.pandas_csv.cast import cast_block
from fdtcc_dagster.pandas_csv.inference import OtherTypesError, infer
from fdtcc_dagster.pandas_csv.mismatch import ErrorContext
from fdtcc_dagster.pandas_csv.parallel import ordered_map
from fdtcc_dagster.pandas_csv.records import ColumnsError, RecordReader, check_columns, split_header
from fdtcc_dagster.window import Window

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class CsvSource:
    """A CSV file in pandas' dialect, and what is known of it.

    Attributes:
        opener: Opens the file at its beginning.
        announced_rows: How many rows it must have, or None if no number was announced.
        dataset: The dataset's name, for error messages.
        window: The window, for error messages.
        sha256: The pointer of a snapshot that the container recorded; None for any other CSV, which may have no rows.
        evidence: Gets the number of rows of such a snapshot each time that all were read.
        is_certain: Whether the announced number is surely that of this snapshot.
        max_record_bytes: The largest size of a record in bytes.
        on_rows: Called with the number of rows that were read, in the thread that reads them, after each frame.
    """

    opener: Callable[[], AbstractContextManager[Readable]]
    announced_rows: int | None = None
    dataset: str | None = None
    window: Window | None = None
    sha256: str | None = None
    evidence: Evidence | None = None
    is_certain: bool = True
    max_record_bytes: int = MAX_RECORD_BYTES
    on_rows: Callable[[int], None] | None = None

    @property
    def context(self) -> ErrorContext:
        """The dataset and window for errors."""
        return ErrorContext(self.dataset, self.window)

    def scan(self, schema: pl.Schema | None = None) -> pl.LazyFrame:
        """Return the typed rows; the arguments and errors are those of `typed` and `TypedCsv.scan`."""
        return self.typed(schema).scan()

    def collect(self, overrides: Mapping[str, DataType]) -> pl.DataFrame:
        """Read all rows, with inferred types except for some columns; the errors are those of `scan` and its result."""
        return self._used(self.typed(overrides=overrides), lambda csv: csv.scan().collect())

    def typed(self, schema: pl.Schema | None = None, overrides: Mapping[str, DataType] | None = None) -> TypedCsv:
        """Find the types of all columns; if they are declared, only the header is read.

        Args:
            schema: The types of all columns. None: they are inferred now, in a separate pass over the whole file.
            overrides: Types of some columns, if `schema` is None.

        Raises:
            SchemaMismatchError: The columns are not those of the schema, or the file has no header.
        """
        self._check_header(schema)
        types = self._inferred(overrides or {}) if schema is None else schema
        return TypedCsv(self, types, lambda text: cast_block(text, pl.Schema({c: types[c] for c in text.columns})))

    def read(self, schema: pl.Schema | None, use: Callable[[TypedCsv], Result]) -> Result:
        """Let a function read all rows, in one pass even if types are inferred.

        Inferred types are those of the first block until a later block shows that the whole file has others. Then the
        function is called again, with the types of the whole file.

        Args:
            schema: The types of all columns, or None to infer them.
            use: Reads the rows to their end, and leaves nothing behind when it fails. It is called once or twice.

        Returns:
            What `use` returned.

        Raises:
            SchemaMismatchError: As for `typed`.
            Exception: What `use` raised.
        """
        csv = self._guessed() if schema is None else self.typed(schema)
        try:
            return self._used(csv, use)
        except Exception:
            # The error may have been wrapped on its way.
            if not isinstance(csv.error, OtherTypesError):
                raise
        return self._used(self.typed(), use)

    @contextmanager
    def reader(self) -> Iterator[RecordReader]:
        """Open the file, and read its header."""
        with self._opened() as file:
            yield RecordReader(file, self.max_record_bytes)

    def check_count(self, rows: int) -> None:
        """Compare the number of rows with the announced one, and keep it as evidence.

        Raises:
            RowCountMismatchError: They differ.
        """
        lossy = is_lossy(self.announced_rows, rows)
        if self.sha256 is not None and self.evidence is not None and (self.is_certain or not lossy or rows == 0):
            self.evidence.count(self.sha256, self.announced_rows, rows)
            if not self.is_certain and not lossy and self.window is not None:
                self.evidence.settle(self.window)
        if not self.is_certain and lossy and self.evidence is not None and self.window is not None:
            self.evidence.contradict(self.window)
        # A CSV that does not come from the container may have no rows.
        if lossy and (rows or self.announced_rows or self.sha256):
            raise lost_rows(
                self.dataset, self.window, self.sha256, self.announced_rows, rows, rejected=self.is_certain or rows == 0
            )

    @contextmanager
    def _opened(self) -> Iterator[Readable]:
        try:
            opened = self.opener()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.context}the snapshot's CSV is gone: its rows must be stored or collected while it exists; "
                "an IO manager has to store them when it handles the output"
            ) from error
        with opened as file:
            yield file

    def _check_header(self, schema: pl.Schema | None) -> None:
        with self._opened() as file:
            try:
                header, _ = split_header(next(record_blocks(file, 1 << 16, longest=self.max_record_bytes), b""))
                check_columns(header, schema)
            except ColumnsError as error:
                raise self.context.mismatch(str(error), column=error.column) from None
            except LongRecordError as error:
                raise self.context.mismatch(str(error)) from error
            except ValueError as error:
                raise self.context.mismatch(f"{error}; the dataset may be empty or not a table") from error

    def _used(self, csv: TypedCsv, use: Callable[[TypedCsv], Result]) -> Result:
        with self.context.named(), csv.errors():
            return use(csv)

    def _guessed(self) -> TypedCsv:
        self._check_header(None)
        with self.reader() as reader:
            guess = infer(self.context.locate(map(reader.read, islice(reader.blocks, 1))))
        return TypedCsv(self, guess.schema, guess.cast)

    def _inferred(self, overrides: Mapping[str, DataType]) -> pl.Schema:
        with self.reader() as reader:
            schema = infer(self.context.locate(ordered_map(reader.read, reader.blocks))).schema
        for column, dtype in overrides.items():
            if column in schema:
                schema[column] = dtype
            else:
                logger.warning("dataset %r has no column %r, whose type is overridden", self.dataset, column)
        return schema


@dataclass
class TypedCsv:
    """A CSV file whose columns have types.

    Attributes:
        source: The file.
        schema: The types of all columns.
        error: The error of the last reading of the rows, before Polars wrapped it.
    """

    source: CsvSource
    schema: pl.Schema
    _cast: Callable[[pl.DataFrame], pl.DataFrame]
    error: Exception | None = field(default=None, init=False)

    def scan(self) -> pl.LazyFrame:
        """Return the rows lazily.

        Returns:
            A LazyFrame that can be collected any number of times while the file exists. Collecting it to its end raises
            `RowCountMismatchError` if the file has another number of rows than announced, and `SchemaMismatchError` for
            the first value that does not fit. Polars 1 wraps these in its `ComputeError`; inside `errors` they are
            raised unwrapped.
        """

        def stream(
            with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            # Without columns, as for a count, a frame would have no height.
            columns = list(self.schema)[:1] if with_columns == [] else with_columns
            for frame in self.frames(columns, n_rows):
                yield frame if predicate is None else frame.filter(predicate)

        return register_io_source(stream, schema=self.schema)

    def frames(self, columns: list[str] | None = None, n_rows: int | None = None) -> Iterator[pl.DataFrame]:
        """Yield the rows, in order, in frames of some ten thousand.

        Args:
            columns: The columns to read; all if None.
            n_rows: The number of rows to read; all if None.

        Raises:
            SchemaMismatchError: A value does not fit, or the file cannot be read.
            RowCountMismatchError: At the end, if the file has another number of rows than announced.
            RuntimeError: The scan was stopped.
        """
        self.error = None
        try:
            yield from stoppable(self._counted(columns or list(self.schema), n_rows))
        except (FdtccError, OtherTypesError) as error:
            # A copy has no traceback, whose frames would keep the blocks alive.
            self.error = copy.copy(error)
            raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise errors of the rows that are read inside without a wrapper, also with Polars 1."""
        try:
            yield
        except pl.exceptions.ComputeError:
            if self.error is None:
                raise
            raise self.error from None

    def _counted(self, columns: list[str], n_rows: int | None) -> Iterator[pl.DataFrame]:
        rows = 0
        with self.source.reader() as reader:
            if n_rows is None:
                typed = ordered_map(lambda block: self._cast(reader.read(block)[columns]), reader.blocks)
            else:
                typed = self._first_rows(reader, columns, n_rows)
            for frame in self.source.context.locate(typed):
                rows += frame.height
                if self.source.on_rows is not None:
                    self.source.on_rows(rows)
                yield frame
        if n_rows is None or rows < n_rows:
            self.source.check_count(rows)

    def _first_rows(self, reader: RecordReader, columns: list[str], n_rows: int) -> Iterator[pl.DataFrame]:
        # The file is not read beyond these rows.
        for block in reader.blocks:
            frame = self._cast(reader.read(block)[columns].head(n_rows))
            yield frame
            n_rows -= frame.height
            if n_rows <= 0:
                return
