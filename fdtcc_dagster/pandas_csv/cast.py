"""Casts blocks of strings to types, strictly.

A value that does not fit, in any spelling that pandas has for the type, is named with its column and row.

Columns are selected by their literal names. If Polars takes a name for an expression, it reads `*` and `^a$` as
patterns, but a dataset may have such names. Some methods of a series, such as `is_null`, are expressions of its name,
too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl
from polars.datatypes import DataType

from fdtcc_dagster.pandas_csv.cast_rules import Cast, cast_of, spelling_of, with_four_digit_years
from fdtcc_dagster.pandas_csv.spelling import first_changed


class CastError(Exception):
    """A value that does not fit.

    Attributes:
        column: The column's name.
        row: The 0-based row within the block.
        value: The text found.
        dtype: The declared type.
    """

    def __init__(self, column: str, row: int, value: str, dtype: DataType) -> None:
        super().__init__(column, row, value, dtype)
        self.column, self.row, self.value, self.dtype = column, row, value, dtype


def cast_block(text: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Cast a block of strings.

    Args:
        text: String columns; an empty field is null.
        schema: Data types of columns of `text`; the result has these columns, in this order.

    Raises:
        CastError: A value does not fit; it names the first one of the first such column.
    """
    texts = {column: column_of(text, column) for column in schema}
    casts = {column: cast_of(dtype, spelling_of(dtype, texts[column])) for column, dtype in schema.items()}
    # All columns at once.
    typed = transform(text[list(schema)], {column: cast.usual for column, cast in casts.items()})
    for column, cast in casts.items():
        if not cast.fits(texts[column], column_of(typed, column)):
            typed = typed.with_columns(_cast_again(column, texts[column], cast, schema[column]))
    return typed


def _cast_again(column: str, text: pl.Series, cast: Cast, dtype: DataType) -> pl.Series:
    value = pl.col(text.name)
    refused = cast.refuse(value).fill_null(value=False) if cast.refuse else pl.lit(value=False)
    every = pl.when(refused).then(None).otherwise(cast.every(value)).cast(dtype).alias(text.name)
    readable = with_four_digit_years(text, declared=True) if dtype.is_temporal() else text
    typed = readable.to_frame().select(every).to_series()
    wrong = [int(row) for row in (typed.is_null() & text.is_not_null()).arg_true().head(1)]
    if dtype.is_float() and (row := first_changed(text, typed)) is not None:
        wrong.append(row)
    if wrong:
        raise CastError(column, min(wrong), str(text[min(wrong)]), dtype)
    return typed.alias(column)


def column_of(frame: pl.DataFrame, name: str) -> pl.Series:
    """A column as a series without a name, so that all methods of series work."""
    return frame[name].alias("")


def transform(frame: pl.DataFrame, functions: Mapping[str, Callable[[pl.Expr], pl.Expr]]) -> pl.DataFrame:
    """Apply functions of expressions to columns, all at once; columns without a function stay as they are."""
    # By number: not all versions of Polars have a selector that is literal.
    numbered = frame.clone()
    numbered.columns = [str(number) for number in range(frame.width)]
    columns = {name: pl.col(str(number)) for number, name in enumerate(frame.columns)}
    return numbered.select(
        (functions[name](column) if name in functions else column).alias(name) for name, column in columns.items()
    )
