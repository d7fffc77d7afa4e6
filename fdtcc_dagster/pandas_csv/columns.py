"""Columns by their literal names.

If Polars takes a name for an expression, it reads `*` and `^a$` as patterns, but a dataset may have such names. Some
methods of a series, such as `is_null`, are expressions of its name, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

Function = Callable[[pl.Expr], pl.Expr]


def column_of(frame: pl.DataFrame, name: str) -> pl.Series:
    """A column as a series without a name, so that all methods of series work."""
    return frame[name].alias("")


def transform(frame: pl.DataFrame, functions: Mapping[str, Function]) -> pl.DataFrame:
    """Apply functions of expressions to columns, all at once; columns without a function stay as they are."""
    # By number: not all versions of Polars have a selector that is literal.
    numbered = frame.clone()
    numbered.columns = [str(number) for number in range(frame.width)]
    return numbered.select(
        functions.get(name, _unchanged)(pl.col(str(number))).alias(name) for number, name in enumerate(frame.columns)
    )


def _unchanged(column: pl.Expr) -> pl.Expr:
    return column
