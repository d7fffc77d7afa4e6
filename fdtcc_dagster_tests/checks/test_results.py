"""Results of checks."""

from __future__ import annotations

import polars as pl

from fdtcc_dagster.checks.results import compare_columns
from fdtcc_dagster.metadata import column_schema


def test_differences_of_many_columns_are_told_in_short() -> None:
    many = column_schema({f"{number}" * 200: pl.String() for number in range(1000)})
    result = compare_columns("2026-01-05", column_schema({"a": pl.Int64()}), many, None)
    assert "and 991 more" in result.text
    assert len(result.text) < 3000
