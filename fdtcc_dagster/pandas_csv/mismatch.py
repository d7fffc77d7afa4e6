"""Errors of a CSV that name its dataset and window, and the row of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from fdtcc_dagster.errors import SchemaMismatchError
from fdtcc_dagster.pandas_csv.blocks import LongRecordError
from fdtcc_dagster.pandas_csv.cast import CastError
from fdtcc_dagster.pandas_csv.cast_advice import type_for, why_not
from fdtcc_dagster.pandas_csv.records import UnreadableError
from fdtcc_dagster.pandas_csv.schema import a_type
from fdtcc_dagster.redaction import quoted, redact
from fdtcc_dagster.window import Window

_CHANGED = "; has something changed the file after the container wrote it?"
_PANICKED = (
    "Polars panicked while it read or stored the rows, which is a defect of its version: install another one, and look "
    "for unusual names of columns, such as with a NUL character"
)


@dataclass(frozen=True)
class ErrorContext:
    """The dataset and window that errors of a CSV name.

    Attributes:
        dataset: The dataset's name, or None for a CSV of no dataset.
        window: The window.
    """

    dataset: str | None
    window: Window | None

    def __str__(self) -> str:
        """The beginning of a message."""
        return "" if self.dataset is None else f"dataset {self.dataset!r}, window {self.window}: "

    def mismatch(
        self, text: str, *, column: str | None = None, row: int | None = None, value: str | None = None
    ) -> SchemaMismatchError:
        """Make an error that begins with the dataset and window."""
        message = f"{self}{redact(text)}"
        return SchemaMismatchError(
            message, dataset=self.dataset, window=self.window, column=column, row=row, value=value
        )

    def locate(self, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield the frames of blocks; an error in one gets its row in the file."""
        rows = 0
        try:
            for frame in frames:
                rows += frame.height
                yield frame
        except UnreadableError as error:
            if error.row is None:
                raise self.mismatch(f"the CSV cannot be read after row {rows}: {error.reason}{_CHANGED}") from error
            raise self.mismatch(f"row {rows + error.row} {error.reason}{_CHANGED}", row=rows + error.row) from error
        except LongRecordError as error:
            raise self.mismatch(str(error)) from error
        except CastError as error:
            row = rows + error.row + 1
            because = f", because {reason}" if (reason := why_not(error.value, error.dtype)) else ""
            raise self.mismatch(
                f"column {quoted(error.column)}, row {row}: {quoted(error.value)} is not "
                f"{a_type(error.dtype)}{because}; declare another type for the column, such as "
                f"{type_for(error.value, error.dtype)}",
                column=error.column,
                row=row,
                value=error.value,
            ) from None
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            # Without a cause: its text may have values in it.
            failed = f"Polars cannot read it ({type(error).__name__})"
            raise self.mismatch(f"the CSV cannot be read after row {rows}: {failed}") from None

    @contextmanager
    def named(self) -> Iterator[None]:
        """Add the dataset and window to errors that lack them."""
        try:
            with without_panics():
                yield
        except SchemaMismatchError as error:
            if error.dataset is not None or self.dataset is None:
                raise
            raise self.mismatch(str(error)) from None


@contextmanager
def without_panics() -> Iterator[None]:
    """Raise a `SchemaMismatchError` if Polars panics: its panic is not an `Exception`, so callers would miss it."""
    try:
        yield
    except pl.exceptions.PanicException:
        raise SchemaMismatchError(_PANICKED) from None
