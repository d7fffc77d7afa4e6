"""Values of any spelling in columns of any type: the type that an error names takes the value, and is another one."""

from __future__ import annotations

import io
import re
from functools import partial

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.datatypes import DataType

from fdtcc_dagster.errors import SchemaMismatchError
from fdtcc_dagster.pandas_csv.schema import to_dtype
from fdtcc_dagster.pandas_csv.source import CsvSource
from fdtcc_dagster_tests.fuzz import examples

NAMES = [
    "Int8", "Int64", "UInt8", "UInt64", "Float32", "Float64", "Boolean", "Enum(a, b)", "Date", "Time",
    "Decimal(1, 0)", "Decimal(2, 2)", "Decimal(10, 2)", "Decimal(38, 0)", "Decimal(38, 38)",
    "Datetime(ms)", "Datetime(us)", "Datetime(ns)", "Datetime(us, UTC)", "Datetime(ns, Europe/Berlin)",
]  # fmt: skip
digits = st.text("0123456789", max_size=40) | st.sampled_from(["0", "00", "1", "9" * 5000, "0" * 400 + "1"])
numbers = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "-", "+"]),
    digits,
    st.sampled_from(["", ".", ".0"]),
    digits,
    st.sampled_from(["", "", "e5", "E-7", "e+400", "E-400", "E999", "e999999999999"]),
)
moments = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["2026-01-05", "2026-02-30", "2300-01-05", "1-01-05", "0000-01-01", "26-01-05"]),
    st.sampled_from(["", " ", "T"]),
    st.sampled_from(["", "00:00:00", "04:00:00", "24:00:00", "04:00"]),
    st.sampled_from(["", ".0", ".123456", ".123456789", ".1234567890", ".1234567891"]),
    st.sampled_from(["", "Z", "+00:00", "-05:30", "+99:00", "+0100"]),
)
others = st.text(min_size=1) | st.sampled_from(["True", "nan", "-inf", "\u0661", "1\u0661.5", "1\n"])


def refusal(text: str, dtype: DataType) -> str:
    """Read a CSV of one value: what the error says, or nothing."""
    file = '"a"\n"{}"\n'.format(text.replace('"', '""')).encode()
    try:
        # Up to a number of rows, which needs no threads.
        list(CsvSource(partial(io.BytesIO, file)).typed(pl.Schema({"a": dtype})).frames(n_rows=2))
    except SchemaMismatchError as error:
        return str(error)
    return ""


@settings(max_examples=examples(400), deadline=None)
@given(numbers.filter(bool) | moments | others, st.sampled_from(NAMES))
def test_the_advised_type_takes_the_value_and_is_not_the_declared_one(text: str, name: str) -> None:
    error = refusal(text, to_dtype("", name))
    if (advice := re.search(r"; declare another type for the column, such as (.*)$", error)) is not None:
        assert advice[1] != name
        assert not refusal(text, to_dtype("", advice[1]))
