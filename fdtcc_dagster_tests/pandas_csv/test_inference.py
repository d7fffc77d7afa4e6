from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.pandas_csv.inference import infer as infer_types

US, NS, UTC, UTC_NS = pl.Datetime("us"), pl.Datetime("ns"), pl.Datetime("us", "UTC"), pl.Datetime("ns", "UTC")

TABLE: list[tuple[Any, list[str]]] = [
    (pl.Boolean(), ["True", "False"]),
    (pl.Int64(), ["0", "-1", "123456789012345"]),
    (pl.Int64(), ["1234567890123456", "-9223372036854775808", "9223372036854775807", "5"]),
    (pl.Float64(), ["1.0", "-0.5", "-0.0", "0.0001", "1e-05", "1.5e+16", "1e+100", "inf", "-inf",
    "1234567890123456.0"]),
    (pl.Float64(), ["0.1", "0.30000000000000004", "1.7976931348623157e+308", "5e-324", "2.2250738585072014e-308"]),
    (pl.Float64(), ["1", "2.0", "123456789012345"]),
    (pl.Date(), ["2024-02-29", "0001-01-01", "9999-12-31"]),
    (US, ["2024-01-01 00:00:00", "2024-01-01 00:00:00.123456", "9999-12-31 23:59:59"]),
    (US, ["2024-01-01", "2024-01-01 10:00:00", "9999-12-31"]),
    (NS, ["2024-01-01 00:00:00.123456789", "2024-01-01", "1678-01-01"]),
    (UTC, ["2024-01-01 00:00:00+00:00", "2024-07-01 00:00:00.5+02:00", "9999-12-30 00:00:00+00:00"]),
    (UTC_NS, ["2024-01-01 00:00:00.123456789+00:00", "2024-01-01 00:00:00+02:00"]),
    # pandas 2 writes years below 1000 so, and these are the first and last nanoseconds that it has.
    (US, ["1-01-01 00:00:00.000000", "124-01-01 00:00:00", "2024-01-01", "9999-12-31"]),
    (NS, ["1677-09-21 00:12:43.145224193", "2262-04-11 23:47:16.854775807", "2262-04-11", "2262-04-11 23:47:16"]),
    (UTC_NS, ["1677-09-21 00:12:43.145224193+00:00", "2262-04-11 23:47:16.854775807+00:00"]),
    (US, ["1677-09-21", "2024-01-01 00:00:00.123456"]),
    (pl.String(), []),
]  # fmt: skip

TEXT = [
    ["007"], ["+7"], ["-0"], ["1.10"], ["1."], [".5"], ["3E7"], ["1e5"], ["1e+05"], ["1e-4"], ["0.00001"], ["1e+1000"],
    ["9223372036854775808"], ["12345678901234567890"], ["1.5", "9007199254740993"], ["9007199254740993", "1.5"],
    ["9007199254740993.0"], ["9007199254740.993"], ["0.1000000000000000055"], ["1.2345678901234567891e+20"],
    ["4e-324"],
    ["1e-400"], ["1e+309"], ["12345678901234567.0"], ["true"], ["TRUE"], ["yes"], ["True", "1"], ["1", "x"], ["nan"],
    ["NaN"], ["None"], ["Infinity"], [" 1"], ["1 "], ["1,5"], ["1_000"], ["\u0661"], ["2024-02-30"], ["24-01-01"],
    ["2024-1-1"],
    ["20240101", "2024-01-01"], ["2024-01-01 24:00:00"], ["2024-01-01 23:59:60"], ["2024-01-01 00:00"], ["10:00:00"],
    ["0000-01-01"], ["2024-01-01 00:00:00", "2024-01-01 00:00:00+00:00"], ["2024-01-01 00:00:00.1234567890"],
    ["9999-12-31", "2024-01-01 00:00:00.123456789"], ["2024-01-01 00:00:00.123456789", "9999-12-31"],
    ["2024-01-01T00:00:00"], ["2024-01-01T00:00:00+02:00"], ["2024-01-01 00:00:00", "2024-01-01T00:00:00"],
    ["2024-01-01 00:00:00Z"], ["2024-01-01T00:00:00.123Z"], ["1-01-01"], ["1-01-01", "2024-01-01 00:00:00"],
    ["24-01-01 00:00:00"],
    ["1-01-01 00:00:00", "2024-01-01 00:00:00.123456789"], ["1-1-1 00:00:00"], ["1-02-29 00:00:00"],
    ["1677-09-21", "2024-01-01 00:00:00.123456789"], ["2024-01-01 00:00:00.123456789", "2262-04-11 23:47:17"],
    ["12345678901234567.89"], ["1e400"], ["9007199254740993", "1.0"],
    ["2024-01-01", "1"], ["1\n"], ["\ufeff1"],
]  # fmt: skip


def infer(*blocks: Sequence[str | None]) -> Any:
    return infer_types(pl.DataFrame({"c": block}, schema={"c": pl.String}) for block in blocks).schema["c"]


@pytest.mark.parametrize(("dtype", "values"), [*TABLE, *((pl.String(), values) for values in TEXT)], ids=str)
def test_narrowest_type_of_all_values_however_they_are_cut(dtype: Any, values: list[str]) -> None:
    cells: list[str | None] = [None, *values, None]
    assert infer(cells) == dtype
    assert infer(*([cell] for cell in cells)) == dtype
    assert infer(*([cell] for cell in reversed(cells))) == dtype


@pytest.mark.parametrize("dtype_and_values", TABLE[:-1], ids=str)
def test_one_late_stranger_makes_it_text(dtype_and_values: tuple[Any, list[str]]) -> None:
    _, values = dtype_and_values
    assert infer([*values] * 500 + ["x"]) == pl.String()
    assert infer([*values], [None], ["x"], [*values]) == pl.String()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([v for _, values in TABLE for v in values] + [v for vs in TEXT for v in vs]),
        min_size=1,
        max_size=4,
    )
)
def test_order_and_blocks_make_no_difference(values: list[str | None]) -> None:
    shuffled = random.Random(0).sample(values, len(values))  # noqa: S311 (a shuffle, no secret)
    assert infer(values) == infer(shuffled) == infer(*([value] for value in values)) == infer(values[:2], values[2:])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
def test_every_float_of_python_is_a_float(values: list[float]) -> None:
    assert infer([repr(value) for value in values]) == pl.Float64()


def test_columns_are_inferred_apart_and_keep_their_order() -> None:
    block = pl.DataFrame({"z": ["1"], "a": ["x"], "m": [None]}, schema=dict.fromkeys("zam", pl.String))
    assert infer_types([block]).schema == {"z": pl.Int64(), "a": pl.String(), "m": pl.String()}
    assert list(infer_types([block]).schema) == ["z", "a", "m"]
