from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.sandbox import to_pandas_csv

# Untyped, as its stubs are not worth a dependency.
pd: Any = pytest.importorskip("pandas")

DAY, SECOND = datetime(2026, 1, 5), datetime(2026, 1, 5, 4, 0, 1)


def by_pandas(columns: dict[str, Any]) -> bytes:
    text = pd.DataFrame(columns).to_csv(index=False)
    assert isinstance(text, str)
    return text.encode()


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3],
        [1, None, 3],
        [2**53 + 1, None],
        [0.1, 1e-7, 1e16, 123456789012345680.0, -0.0, 1e22, None],
        [float("inf"), float("-inf"), float("nan"), 1.0],
        [True, False],
        [True, None, False],
        ["a,b", 'q"x', "l\nm", "", " x", None, "007", "ä😀", "-", "#"],
        [None, "x"],
        [DAY, DAY + timedelta(days=1), None],
        [DAY, SECOND],
        [DAY, SECOND + timedelta(milliseconds=120), None],
        [DAY, SECOND + timedelta(microseconds=123456)],
        [SECOND + timedelta(milliseconds=7), SECOND + timedelta(microseconds=9)],
        [datetime(2026, 1, 5, tzinfo=timezone.utc), datetime(2026, 1, 5, 4, 0, 1, tzinfo=timezone.utc), None],
        [date(2026, 1, 5), None],
        [time(1, 2, 3), time(1, 2, 3, 4), None],
        [timedelta(days=1), timedelta(days=-2), None],
        [timedelta(days=1, seconds=5), timedelta(seconds=-5), timedelta(0)],
        [Decimal("1.50"), None],
        [[1, 2], [None], None, []],
        [["a", "b's"], ['"']],
        [{"a": 1, "b": "x"}, None],
        [b"x\x00", None],
    ],
    ids=str,
)
def test_column_is_written_as_pandas_writes_it(values: list[Any]) -> None:
    """See docs/protocol.md#the-csv."""
    assert to_pandas_csv(pl.DataFrame({"c": values})) == by_pandas({"c": values})


def test_dialect_reads_as_documented() -> None:
    """By hand, should pandas change: docs/protocol.md#the-csv."""
    frame = pl.DataFrame(
        {"i": [1, None], "b": [True, None], "t": [DAY, None], "s": ['say "hi"', None], "l": [["x"], None]}
    )
    assert to_pandas_csv(frame) == b'i,b,t,s,l\n1.0,True,2026-01-05,"say ""hi""",[\'x\']\n,,,,\n'


def test_decimals_of_zoned_datetimes_and_durations_are_those_of_pandas_2() -> None:
    moments = [datetime(2026, 1, 5, tzinfo=timezone.utc), datetime(2026, 1, 5, 4, 0, 0, 120000, tzinfo=timezone.utc)]
    frame = pl.DataFrame({"t": moments, "d": [timedelta(days=1), timedelta(microseconds=120)]})
    assert to_pandas_csv(frame) == (
        b"t,d\n2026-01-05 00:00:00+00:00,1 days 00:00:00\n2026-01-05 04:00:00.120000+00:00,0 days 00:00:00.000120\n"
    )


def test_nanoseconds_are_kept() -> None:
    frame = pl.DataFrame({"t": pl.Series([1, 10**9]).cast(pl.Datetime("ns"))})
    assert to_pandas_csv(frame) == by_pandas({"t": pd.to_datetime([1, 10**9])})


def test_single_precision_keeps_its_shortest_digits() -> None:
    frame = pl.DataFrame({"f": pl.Series([0.1, 16.5, None, float("nan")], dtype=pl.Float32)})
    assert to_pandas_csv(frame) == b'f\n0.1\n16.5\n""\n""\n'


def test_names_are_quoted_where_they_must_be_and_no_rows_leave_the_header() -> None:
    assert to_pandas_csv(pl.DataFrame({"a,b": [], 'q"': []})) == b'"a,b","q"""\n'


def test_null_columns_and_categories_are_plain() -> None:
    frame = pl.DataFrame({"n": [None, None], "c": pl.Series(["x", None]).cast(pl.Categorical), "i": [1, 2]})
    assert to_pandas_csv(frame) == b"n,c,i\n,x,1\n,,2\n"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(),
            # Python 3.10 writes no NUL.
            st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
            st.none() | st.booleans(),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_frame_is_written_as_pandas_writes_it(rows: list[tuple[Any, ...]]) -> None:
    columns = {name: [row[i] for row in rows] for i, name in enumerate("ifsb")}
    schema = {"i": pl.Int64, "f": pl.Float64, "s": pl.String, "b": pl.Boolean}
    expected = {
        "i": pd.Series(columns["i"], dtype="float64" if None in columns["i"] else "int64"),
        "f": pd.Series(columns["f"], dtype="float64"),
        "s": pd.Series(columns["s"], dtype=object),
        "b": pd.Series(columns["b"], dtype=object),
    }
    assert to_pandas_csv(pl.DataFrame(columns, schema=schema)) == by_pandas(expected)
