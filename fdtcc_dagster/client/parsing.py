"""A CSV snapshot as a typed LazyFrame, streamed block by block and checked to its last row."""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import polars as pl
from polars.datatypes import DataType
from polars.io.plugins import register_io_source

from fdtcc_dagster.client.ahead import in_order
from fdtcc_dagster.client.arriving import Readable
from fdtcc_dagster.client.blocks import record_blocks, split_header
from fdtcc_dagster.client.casting import Misfit, cast_block
from fdtcc_dagster.client.errors import FdtccError, RowCountMismatchError, SchemaMismatchError
from fdtcc_dagster.client.inference import infer_schema
from fdtcc_dagster.client.protocol import redact
from fdtcc_dagster.client.records import RecordReader, UnreadableError
from fdtcc_dagster.client.stopping import stoppable
from fdtcc_dagster.client.window import Window

logger = logging.getLogger(__name__)

_raised: deque[FdtccError] = deque(maxlen=64)


@dataclass(frozen=True)
class CsvSource:
    """A CSV file in pandas' dialect (S20), and what is known of it.

    Attributes:
        opener: Opens the file at its beginning.
        announced_rows: How many rows it must have (S18), or None where nobody said so.
        dataset: The dataset's name, for error messages.
        window: The window, for error messages.
    """

    opener: Callable[[], AbstractContextManager[Readable]]
    announced_rows: int | None = None
    dataset: str | None = None
    window: Window | None = None

    def scan(self, schema: pl.Schema | None = None, overrides: Mapping[str, DataType] | None = None) -> pl.LazyFrame:
        """Give the typed rows; nothing but the header is read before the frame is collected or sunk.

        Args:
            schema: The types of all columns. None: they are inferred, in a pass of its own over the whole file now.
            overrides: Types of some columns, where `schema` is None.

        Returns:
            A LazyFrame that can be collected any number of times while the file exists. Collecting it to its end
            raises `RowCountMismatchError` when the file has another number of rows than announced, and
            `SchemaMismatchError` for the first value that does not fit. Polars 1 wraps these in its `ComputeError`:
            collect inside `source_errors()` to get them as they are.

        Raises:
            SchemaMismatchError: The columns are not those of the schema, or the file has no header.
        """
        complete = self.resolve(schema, overrides)

        def stream(
            with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            # Of no columns, as for a mere count, a frame would have no height.
            columns = list(complete)[:1] if with_columns == [] else with_columns or list(complete)
            wanted = pl.Schema({column: complete[column] for column in columns})
            for block in self.frames(wanted, n_rows):
                yield block if predicate is None else block.filter(predicate)

        return register_io_source(stream, schema=complete)

    def collect(self, overrides: Mapping[str, DataType]) -> pl.DataFrame:
        """Read all rows, with inferred types but for some columns; the errors are those of `scan` and its result."""
        with source_errors():
            return self.scan(overrides=overrides).collect()

    def resolve(self, schema: pl.Schema | None = None, overrides: Mapping[str, DataType] | None = None) -> pl.Schema:
        """Give the types of all columns; the arguments and errors are those of `scan`."""
        header = self._header()
        if schema is None:
            return self._inferred(overrides or {})
        if sorted(schema) != sorted(header):
            missing, extra = [c for c in schema if c not in header], [c for c in header if c not in schema]
            raise self._mismatch(
                f"the CSV's columns are not those of the schema: missing {missing}, not declared {extra}; "
                "adapt the schema to the dataset",
                column=(missing or extra)[0],
            )
        return schema

    def frames(self, schema: pl.Schema, n_rows: int | None = None) -> Iterator[pl.DataFrame]:
        """Give the typed rows, block by block.

        Args:
            schema: The types of the columns that are wanted.
            n_rows: How many rows are wanted; all if None.

        Yields:
            Frames of some ten thousand rows, in order.

        Raises:
            SchemaMismatchError: A value does not fit, or the file cannot be read.
            RowCountMismatchError: At the end, when the file has another number of rows than announced.
        """
        return stoppable(self._remembering(self._typed(schema, n_rows)))

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
            yield RecordReader(file)

    def _header(self) -> list[str]:
        with self._opened() as file:
            try:
                header, _ = split_header(next(record_blocks(file, 1 << 16), b""))
            except ValueError as error:
                raise self._mismatch(f"{error}; the dataset may be empty or not a table") from error
        if len(set(header)) != len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise self._mismatch(f"the CSV has two columns named {twice!r}", column=twice)
        return header

    def _inferred(self, overrides: Mapping[str, DataType]) -> pl.Schema:
        with self._reader() as reader:
            schema = infer_schema(self._located(in_order(reader.read, reader.blocks)))
        for column, dtype in overrides.items():
            if column in schema:
                schema[column] = dtype
            else:
                logger.warning("dataset %r has no column %r, whose type is overridden", self.dataset, column)
        return schema

    def _typed(self, schema: pl.Schema, n_rows: int | None) -> Iterator[pl.DataFrame]:
        rows = 0
        with self._reader() as reader:
            for frame in self._located(_cast(reader, schema, n_rows)):
                rows += frame.height
                yield frame
        if n_rows is not None and rows >= n_rows:
            return
        if self.announced_rows not in (None, rows):
            raise RowCountMismatchError(
                f"{self._where}the container announced {self.announced_rows} rows, "
                f"but the CSV has {rows}. The container loses rows of large datasets whose ids are not dense: "
                "raise its batch size or drop the column `id` from the dataset",
                dataset=self.dataset,
                window=self.window,
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
        except Misfit as misfit:
            row = rows + misfit.row + 1
            raise self._mismatch(
                f"column {misfit.column!r}, row {row}: {misfit.value[:100]!r} is not a {misfit.dtype}; "
                "declare another type for the column, such as String",
                column=misfit.column,
                row=row,
                value=misfit.value,
            ) from None

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


def _cast(reader: RecordReader, schema: pl.Schema, n_rows: int | None) -> Iterator[pl.DataFrame]:
    if n_rows is None:
        yield from in_order(lambda block: cast_block(reader.read(block), schema), reader.blocks)
        return
    # What comes after the rows that are wanted is not looked at.
    for block in reader.blocks:
        frame = cast_block(reader.read(block).head(n_rows), schema)
        yield frame
        n_rows -= frame.height
        if n_rows <= 0:
            return


@contextmanager
def source_errors() -> Iterator[None]:
    """Let the typed errors of a scanned snapshot through as they are.

    Polars 2 does so by itself; Polars 1 wraps what a Python source raises in a `ComputeError` that keeps its text.
    """
    try:
        yield
    except pl.exceptions.ComputeError as wrapped:
        for error in reversed(_raised):
            if str(error) in str(wrapped):
                raise error from wrapped
        raise
