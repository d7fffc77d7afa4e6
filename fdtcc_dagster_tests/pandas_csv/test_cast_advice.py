from __future__ import annotations

import re

import pytest

from fdtcc_dagster.pandas_csv.cast_advice import type_for, why_not
from fdtcc_dagster.pandas_csv.schema import to_dtype


@pytest.mark.parametrize(
    ("text", "dtype", "reason", "other"),
    [
        ("x", "Int64", "", "String"),
        ("007", "Int64", "leading zero", "String"),
        ("+1", "Float64", "plus", "String"),
        ("300", "Int8", "not between -128 and 127", "Int64"),
        ("-1.0", "UInt16", "not between 0 and 65,535", "String"),
        ("9007199254740993.0", "Int64", r"2\^53 \(9,007,199,254,740,992\)", "String"),
        ("1.5", "Int64", "", "Float64"),
        ("12345678901234567890.5", "Float64", r"15 digits .* 2\^53 \(9,007", "Decimal or String"),
        ("0.1234567", "Float32", r"6 digits .* 2\^24 \(16,777,216\)", "Decimal or String"),
        ("x", "Float64", "", "String"),
        ("1.555", "Decimal(10, 2)", "more than 2 digits behind its point", "Decimal(10, 3)"),
        ("123.5", "Decimal(4, 2)", "more than 4 altogether", "Decimal(5, 2)"),
        ("1" * 39, "Decimal(4, 2)", "more than 4 altogether", "String"),
        ("yes", "Boolean", "True and False", "String"),
        ("2026-01-05 04:00:00", "Date", "a time of day", "Datetime(us)"),
        ("2026-02-30 04:00:00", "Datetime(us)", "no such time", "String"),
        ("2026-01-05 04:00:00.123456", "Datetime(ms)", "more digits than ms", "Datetime(us)"),
        ("2300-01-05 04:00:00", "Datetime(ns)", "1678 to 2261", "Datetime(us)"),
        ("Monday", "Datetime(us)", "", "String"),
        ("new", "Enum(a, b)", "", "String"),
    ],
)
def test_a_value_that_does_not_fit_gets_a_reason_and_a_type_that_it_fits(
    text: str, dtype: str, reason: str, other: str
) -> None:
    given = to_dtype("", dtype)
    why = why_not(text, given)
    assert re.search(reason, why) if reason else why == ""
    assert type_for(text, given).startswith(other)
