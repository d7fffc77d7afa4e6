"""A CSV file whose columns have types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
from polars.io.plugins import register_io_source

if TYPE_CHECKING:
    from fdtcc_dagster.pandas_csv.source import CsvSource


@dataclass(frozen=True)
class TypedCsv:
    """A CSV file and the types of its columns.

    Attributes:
        source: The file.
        schema: The types of all columns.
    """

    source: CsvSource
    schema: pl.Schema
    _cast: Callable[[pl.DataFrame], pl.DataFrame]

    def scan(self) -> pl.LazyFrame:
        """Give the rows lazily.

        Returns:
            A LazyFrame that can be collected any number of times while the file exists. Collecting it to its end
            raises `RowCountMismatchError` when the file has another number of rows than announced, and
            `SchemaMismatchError` for the first value that does not fit. Polars 1 wraps these in its `ComputeError`:
            collect inside `source_errors()` to get them as they are.
        """

        def stream(
            with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            # Of no columns, as for a mere count, a frame would have no height.
            columns = list(self.schema)[:1] if with_columns == [] else with_columns or list(self.schema)
            for block in self.source.frames(lambda text: self._cast(text[columns]), n_rows):
                yield block if predicate is None else block.filter(predicate)

        return register_io_source(stream, schema=self.schema)

    def frames(self) -> Iterator[pl.DataFrame]:
        """Give the rows block by block; see `CsvSource.frames`."""
        return self.source.frames(lambda text: self._cast(text[list(self.schema)]))
