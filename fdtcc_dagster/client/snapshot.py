"""The result of a pull: one verified CSV."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from fdtcc_dagster.client.parsing import CsvSource
from fdtcc_dagster.client.protocol import Origin
from fdtcc_dagster.client.schema import SchemaLike, to_schema
from fdtcc_dagster.client.window import Window


@dataclass(frozen=True)
class Snapshot:
    """One pull of a whole dataset, as a CSV file whose bytes were verified against the pointer.

    Attributes:
        dataset: The dataset's name.
        path: The CSV, in the directory that was given to `pull`; it belongs to the caller.
        sha256: The pointer: 64 lower-case hex digits, the SHA-256 of the file (S19).
        size_bytes: The file's size in bytes.
        announced_rows: How many rows the container counted in Foundry, or None where it did not say so.
        origin: `"cached"` for a version of the window, `"fetched"` for data that was pulled from Foundry just now.
        window: The window that was asked for.
        requested_at: The aware instant at which the container was asked.
        seconds: How long the conversation and the transfer took together.
    """

    dataset: str
    path: Path
    sha256: str
    size_bytes: int
    announced_rows: int | None
    origin: Origin
    window: Window
    requested_at: datetime
    seconds: float

    def scan(self, schema: SchemaLike | None = None) -> pl.LazyFrame:
        """Give the typed rows as a LazyFrame that streams from `path`.

        Args:
            schema: Column → Polars data type (or its name) of every column; values must fit strictly, as pandas writes
                them (S20), and an empty field is null. None: types are inferred over the whole file, in a pass of its
                own, now.

        Returns:
            The LazyFrame. Collecting or sinking it to its end raises `SchemaMismatchError` or `RowCountMismatchError`
            where the data are not as declared or announced; see `fdtcc_dagster.client.parsing.source_errors`.

        Raises:
            ValueError: The schema has an unknown data type.
            SchemaMismatchError: The CSV's columns are not those of the schema.
        """
        return self._source().scan(None if schema is None else to_schema(schema))

    def _source(self) -> CsvSource:
        return CsvSource(self.path, self.announced_rows, self.dataset, self.window)
