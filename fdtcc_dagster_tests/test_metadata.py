from __future__ import annotations

import polars as pl

from fdtcc_dagster.metadata import column_metadata, column_schema


def test_columns_that_are_too_many_for_an_event_are_counted() -> None:
    few = column_metadata({"a": pl.Int64()})
    assert {name: value.value for name, value in few.items()} == {
        "dagster/column_schema": column_schema({"a": pl.Int64()})
    }
    many = column_metadata({f"column{number}": pl.String() for number in range(200_000)})
    assert {name: value.value for name, value in many.items()} == {"foundry/columns": 200_000}
