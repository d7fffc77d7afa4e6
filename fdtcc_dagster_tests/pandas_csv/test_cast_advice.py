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
        ("-1.0", "UInt16", "not between 0 and 65,535", "Int64"),
        ("9007199254740993.0", "Int64", r"2\^53 \(9,007,199,254,740,992\)", "String"),
        ("9" * 5000 + ".0", "Int64", r"2\^53", "String"),
        ("9" * 5000, "UInt8", "not between 0 and 255", "String"),
        ("9" * 5000, "Float64", "beyond the range", "String"),
        ("9" * 5000, "Decimal(10, 2)", "more than 8 digits before its point", "String"),
        ("1.5", "Int64", "", "Float64"),
        ("1.50", "Int64", "", "Float64"),
        ("1" * 20 + ".50", "Int64", "", "String"),
        ("12345678901234567890.5", "Float64", r"15 digits .* 2\^53 \(9,007", "Decimal(38, 1)"),
        ("1" * 37 + ".25", "Float64", "15 digits", "String"),
        ("1" * 37 + ".20", "Float64", "15 digits", "Decimal(38, 1)"),
        ("1.23456789012345678E5", "Float64", "15 digits", "Decimal(38, 12)"),
        ("1.2345678901234567890e5", "Float64", "15 digits", "String"),
        ("1e400", "Float64", r"beyond the range of a Float64, about 2\.2e-308 to 1\.8e\+308", "String"),
        ("-1e400", "Float64", "beyond the range", "String"),
        ("1e-400", "Float64", "beyond the range", "String"),
        ("1E" + "9" * 5000, "Float64", "beyond the range", "String"),
        ("1e39", "Float32", r"beyond the range of a Float32, about 1\.2e-38 to 3\.4e\+38", "Float64"),
        ("0.1234567", "Float32", r"6 digits .* 2\^24 \(16,777,216\)", "Float64"),
        ("12345678901234567890.5", "Float32", "6 digits", "Decimal(38, 1)"),
        ("x", "Float64", "", "String"),
        ("1.555", "Decimal(10, 2)", "more than 2 digits behind its point", "Decimal(10, 3)"),
        ("123.5", "Decimal(4, 2)", "more than 2 digits before its point", "Decimal(5, 2)"),
        ("123.500", "Decimal(4, 2)", "more than 2 digits before its point", "Decimal(6, 3)"),
        ("0.123", "Decimal(2, 2)", "more than 2 digits behind its point", "Decimal(3, 3)"),
        ("1E-7", "Decimal(10, 2)", "more than 2 digits behind its point", "Decimal(10, 7)"),
        ("1E+400", "Decimal(10, 2)", "more than 8 digits before its point", "String"),
        ("1" * 39, "Decimal(4, 2)", "more than 2 digits before its point", "String"),
        *((text, "Decimal(10, 2)", "leading zero", "String") for text in ("007.50", "007", "-00", "00.5", "-01.5")),
        ("+1.5", "Decimal(10, 2)", "plus", "String"),
        ("yes", "Boolean", "True and False", "String"),
        ("2026-01-05 04:00:00", "Date", "a time of day", "Datetime(us)"),
        ("2026-01-05T04:00:00", "Date", "a time of day", "Datetime(us)"),
        ("2026-01-05T04:00:00Z", "Date", "a time of day", "Datetime(us, UTC)"),
        ("2026-02-30 00:00:00", "Date", "no such day", "String"),
        ("2026-02-30", "Date", "no such day", "String"),
        ("2026-02-30 04:00:00", "Datetime(us)", "no such time", "String"),
        ("2026-01-05 04:00", "Datetime(us)", "pandas writes", "String"),
        ("2026-01-05 04:00:00.123456", "Datetime(ms)", "more digits than ms", "Datetime(us)"),
        ("2300-01-05 04:00:00", "Datetime(ns)", "1678 to 2261", "Datetime(us)"),
        ("2026-01-05 04:00:00+00:00", "Datetime(us)", "has an offset .* no time zone", "Datetime(us, UTC)"),
        ("2026-01-05 04:00:00Z", "Datetime(ms)", "has an offset .* no time zone", "Datetime(ms, UTC)"),
        ("2026-01-05T04:00:00.123456789Z", "Datetime(us)", "has an offset", "Datetime(ns, UTC)"),
        ("2026-01-05 04:00:00.123456789", "Datetime(us, Europe/Berlin)", "digits", "Datetime(ns, Europe/Berlin)"),
        ("2026-01-05 04:00:00.123456789+01:00", "Datetime(us, UTC)", "digits", "Datetime(ns, UTC)"),
        ("2300-01-05T04:00:00Z", "Datetime(ns, Europe/Berlin)", "1678 to 2261", "Datetime(us, Europe/Berlin)"),
        ("1-01-05 04:00:00", "Datetime(ns, UTC)", "", "Datetime(us, UTC)"),
        ("Monday", "Datetime(us)", "", "String"),
        ("2026-01-05", "Time", "", "Date"),
        ("new", "Enum(a, b)", "", "String"),
    ],
)
def test_a_value_that_does_not_fit_gets_a_reason_and_a_type_that_it_fits(
    text: str, dtype: str, reason: str, other: str
) -> None:
    given = to_dtype("", dtype)
    why = why_not(text, given)
    assert re.search(reason, why) if reason else why == ""
    assert type_for(text, given) == other
