"""Results of checks."""

from __future__ import annotations

import polars as pl

from fdtcc_dagster.checks.results import Result, altogether, compare_columns, missing
from fdtcc_dagster.metadata import column_schema


def test_differences_of_many_columns_are_told_in_short() -> None:
    many = column_schema({f"{number}" * 200: pl.String() for number in range(1000)})
    result = compare_columns("2026-01-05", column_schema({"a": pl.Int64()}), many, None)
    assert "and 991 more" in result.text
    assert len(result.text) < 3000


def test_what_is_the_same_of_several_partitions_is_said_once() -> None:
    found = {f"2026-01-{day:02}": missing(f"2026-01-{day:02}", "nobody knows") for day in range(1, 13)}
    found["2026-01-13"] = Result(passed=False, text="2026-01-13: one row instead of two")
    found["2026-01-14"] = missing("2026-01-13", "no columns were recorded")
    listed = ", ".join(f"2026-01-{day:02}" for day in range(1, 11))
    assert altogether(found, "all pass").text == (
        f"{listed}, and 2 more: nobody knows; 2026-01-13: one row instead of two; 2026-01-13: no columns were recorded"
    )
