from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from math import inf
from typing import Any
from zoneinfo import ZoneInfo

import numpy
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.datatypes import DataType

from fdtcc_dagster.pandas_csv.cast import CastError, cast_block
from fdtcc_dagster.pandas_csv.cast_rules import with_four_digit_years
from fdtcc_dagster_tests.fuzz import examples

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")
MS, US, NS = pl.Datetime("ms"), pl.Datetime("us"), pl.Datetime("ns")
ZONED, ZONED_NS, LOCAL = pl.Datetime("us", "UTC"), pl.Datetime("ns", "UTC"), pl.Datetime("us", "Europe/Berlin")
CENTS, UNITS, FINE = pl.Decimal(10, 2), pl.Decimal(38, 0), pl.Decimal(38, 18)


def cast(dtype: DataType, *texts: str | None) -> pl.Series:
    return cast_block(pl.DataFrame({"c": texts}, schema={"c": pl.String}), pl.Schema({"c": dtype}))["c"]


def naive(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type]


ACCEPTED: list[tuple[DataType, dict[str, Any]]] = [
    (pl.Int8(), {"-128": -128, "127": 127, "127.0": 127, "-0": 0}),
    (pl.Int16(), {"-32768": -32768, "32767.0": 32767}),
    (pl.Int32(), {"-2147483648": -(2**31), "2147483647.0": 2**31 - 1}),
    (pl.Int64(), {"1": 1, "0": 0, "-1.0": -1, "0.0": 0, str(2**63 - 1): 2**63 - 1, str(-(2**63)): -(2**63)}),
    (pl.Int64(), {"9007199254740991.0": 2**53 - 1, "-9007199254740991.0": 1 - 2**53}),
    (pl.UInt8(), {"255": 255, "255.0": 255}),
    (pl.UInt16(), {"65535": 65535}),
    (pl.UInt32(), {"4294967295": 2**32 - 1, "4294967295.0": 2**32 - 1}),
    (pl.UInt64(), {"18446744073709551615": 2**64 - 1, "1.0": 1}),
    (pl.Float64(), {"1": 1.0, "0.5": 0.5, "-1.5": -1.5, "1e-07": 1e-07, "1e+16": 1e16, "inf": inf, "-inf": -inf}),
    (pl.Float64(), {"1.7976931348623157e+308": 1.7976931348623157e308, "5e-324": 5e-324, "0.1": 0.1}),
    # What pandas writes, with more zeros or digits; an integer of a column with nulls; and digits of the exact value.
    (pl.Float64(), {"9007199254740992.0": 2.0**53, "-0.0": 0.0, "0E-18": 0.0, "123.450000000000000000": 123.45}),
    (pl.Float64(), {"0.30000000000000004": 0.1 + 0.2, "0.10000000000000001": 0.1, "9007199254740992": 2.0**53}),
    (pl.Float64(), {"2.2250738585072014e-308": 2.0**-1022, "5e-324": 5e-324, "1.2345678901234566e-07":
    1.2345678901234566e-07}),
    (pl.Float32(), {"1.5": 1.5, "inf": inf, "3.4028234663852886e+38": 3.4028234663852886e38}),
    (pl.Float32(), {"0.1": 0.10000000149011612, "0.10000000149011612": 0.10000000149011612, "1e-45": 2.0**-149}),
    (pl.Boolean(), {"True": True, "False": False, "true": True, "false": False}),
    (pl.String(), {"007": "007", " x ": " x ", "nan": "nan", "None": "None", "a\x00b": "a\x00b", "ä\r\n": "ä\r\n"}),
    (pl.Categorical(), {"a": "a", " ": " "}),
    (pl.Enum(["low", "high"]), {"low": "low", "high": "high"}),
    (pl.Date(), {"2024-02-29": date(2024, 2, 29), "0001-01-01": date(1, 1, 1), "9999-12-31": date(9999, 12, 31)}),
    (pl.Date(), {"2024-01-02 00:00:00": date(2024, 1, 2), "2024-01-02T00:00:00.000Z": date(2024, 1, 2)}),
    # Years below 1000 as pandas 2 writes them.
    (pl.Date(), {"1-01-01": date(1, 1, 1), "999-12-31 00:00:00.000000": date(999, 12, 31)}),
    (pl.Date(), {"24-01-01 00:00:00": date(24, 1, 1), "124-01-01": date(124, 1, 1)}),
    (pl.Time(), {"00:00:00": time(), "23:59:59.999999": time(23, 59, 59, 999999), "01:02:03.5": time(1, 2, 3,
    500000)}),
    (MS, {"2024-01-02": naive(2024, 1, 2), "2024-01-02 03:04:05.678": naive(2024, 1, 2, 3, 4, 5, 678000)}),
    (MS, {"2024-01-02 03:04:05.678000000": naive(2024, 1, 2, 3, 4, 5, 678000)}),
    (US, {"2024-01-02 03:04:05": naive(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05.1": naive(2024, 1, 2, 3, 4, 5,
    100000)}),
    (US, {"0001-01-01 00:00:00": naive(1, 1, 1), "9999-12-31 23:59:59.999999": naive(9999, 12, 31, 23, 59, 59,
    999999)}),
    (US, {"1-01-01 00:00:00.000000": naive(1, 1, 1), "24-01-01 00:00:00": naive(24, 1, 1), "999-12-31": naive(999, 12,
    31)}),
    (MS, {"1-01-01 00:00:00.001": naive(1, 1, 1, 0, 0, 0, 1000)}),
    (ZONED, {"1-01-02 00:00:00.000000+00:00": datetime(1, 1, 2, tzinfo=UTC), "1-01-01": datetime(1, 1, 1,
    tzinfo=UTC)}),
    (NS, {"1677-12-31 00:00:00": naive(1677, 12, 31), "2262-01-01": naive(2262, 1, 1)}),
    (NS, {"1678-01-01": naive(1678, 1, 1), "2261-12-31 23:59:59.123456": naive(2261, 12, 31, 23, 59, 59, 123456)}),
    (ZONED, {"2024-01-02 03:04:05+00:00": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)}),
    (ZONED, {"2024-01-02 03:04:05.25-02:30": datetime(2024, 1, 2, 5, 34, 5, 250000, tzinfo=UTC)}),
    (ZONED, {"2024-01-02T03:04:05Z": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)}),
    (ZONED, {"2024-01-02 03:04:05": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)}),
    (ZONED, {"2024-01-02": datetime(2024, 1, 2, tzinfo=UTC)}),
    (LOCAL, {"2024-07-02 12:00:00": datetime(2024, 7, 2, 14, tzinfo=BERLIN)}),
    (LOCAL, {"2024-10-27 02:30:00+02:00": datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)}),
    (LOCAL, {"2024-10-27 02:30:00+01:00": datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN)}),
    (LOCAL, {"2024-03-31 03:00:00+02:00": datetime(2024, 3, 31, 3, tzinfo=BERLIN)}),
    (CENTS, {"1": Decimal("1.00"), "1.5": Decimal("1.50"), "-1.55": Decimal("-1.55"), "1.550": Decimal("1.55")}),
    (CENTS, {"0E-18": Decimal(0), "1E-2": Decimal("0.01"), "1.5E+3": Decimal(1500),
    "99999999.99": Decimal("99999999.99")}),
    (UNITS, {"9" * 38: Decimal("9" * 38), "1.0": Decimal(1), "1E+5": Decimal(100000)}),
    (FINE, {"1E-18": Decimal("1E-18"), "0.000000000000000001": Decimal("1E-18"), "1.5E-7": Decimal("1.5E-7")}),
]  # fmt: skip

REFUSED: list[tuple[DataType, list[str]]] = [
    (pl.Int8(), ["128", "-129", "128.0", "1e2"]),
    (pl.Int32(), ["2147483648", "2147483648.0"]),
    (
        pl.Int64(),
        [
            "007", "-007", "+7", "00", "00.0", "1.5", "1.", ".0", "1.00", "1e3", "1e+16", "1.5e+16", "1E16", "1e+400",
            "9223372036854775808", "-9223372036854775809", "9007199254740993.0", "9007199254740992.0", "1.0.0",
            "12345678901234567890.0", " 1", "1 ", "1_000", "1,000", "0x10", "--1", "-", "nan", "inf", "True",
            "\u0661", "",
        ],
    ),
    (pl.UInt8(), ["-1", "256", "256.0", "-1.0"]),
    (pl.UInt64(), ["18446744073709551616", "1e+19", "-1"]),
    (pl.Float64(), ["007", "00.5", "-00.5", "+1.5", "1e400", "-1e400", "1,5", "1_0", " 1", "1 ", "x", "-", "0x1p3",
    "", "9007199254740993", "-9007199254740993.0", "12345678901234567.89", "0.1000000000000000055", "1e-400", "-1E-400",
    "4e-324", "9223372036854775807", "1e-99999999999999999999", "0." + "1" * 999, "Infinity"]),
    (pl.Float32(), ["1e39", "-1e39", "3.5e+38", "16777217", "0.30000000000000004", "1e-46", "1234567.89", "2e-45"]),
    (pl.Boolean(), ["1", "0", "1.0", "TRUE", "yes", " True", "t", ""]),
    (pl.Enum(["low", "high"]), ["Low", "middle", " low", "low ", ""]),
    (
        pl.Date(),
        [
            "2024-02-30", "2023-02-29", "2024-1-1", "01-01-01", "24-01-01", "31-12-24", "1-02-29",
            " 2024-01-01", "2024-01-01 ", "20240101", "01.01.2024",
            "2024-01-01 00:00:01", "2024-01-01 00:00:00+02:00", "2024-01-01 00:00", "0000-01-01", "-001-01-01",
            "2024-01-01 00:00:00.001", "10000-01-01", "+2024-01-01", "2024-01-01x",
        ],
    ),
    (
        pl.Time(),
        ["24:00:00", "23:59:60", "12:34", "1:2:3", " 12:34:56", "12:34:56+00:00", "12:34:56.", "12:34:56.1234567891"],
    ),
    (MS, ["2024-01-01 00:00:00.0001", "2024-01-01 00:00:00.123456", "2024-01-01 00:00:00.123000001"]),
    (
        US,
        [
            "2024-01-01 00:00:00.0000001", "2024-01-01 00:00:00+00:00", "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00+02:00",
            "2024-01-01 23:59:60", "2024-01-01 23:59:60.5", "2024-01-01 24:00:00", "2024-02-30 00:00:00",
            "2024-01-01 00:00",
            "01-01-01 00:00:00", "0-01-01", "1-1-1", "2024-1-1 1:2:3", "2024-01-01 1:02:03", "2024-01-01  12:34:56",
            " 2024-01-01 00:00:00",
            "2024-01-01 00:00:00 ", "2024-01-01 00:00:00.", "2024-01-01 00:00:00.-1", "2024-01-01TT00:00:00",
            "2024-01-01 ",
            "0000-01-01 00:00:00", "99999-01-01 00:00:00", "20240101 000000", "1704067200", "2024-01-01 00:00:00 AM",
        ],
    ),
    (
        NS,
        [
            "2024-01-01 00:00:00.0000000001", "9999-12-31", "0001-01-01 00:00:00", "1-01-01", "24-01-01", "1677-09-21",
            "1677-09-21 00:12:43", "1677-09-21 00:12:43.145224192", "1677-09-20 23:59:59.999999999",
            "2262-04-11 23:47:16.854775808", "2262-04-11 23:47:17", "2262-04-12",
        ],
    ),
    (
        ZONED_NS,
        [
            "9999-12-31 00:00:00+00:00", "1600-01-01", "2262-04-11 23:47:16.854775808+00:00",
            "2262-04-11 23:47:16.854775807-01:00", "1677-09-21 00:12:43.145224193+01:00",
        ],
    ),
    (
        ZONED,
        [
            "2024-01-01 00:00:00+24:00", "2024-01-01 00:00:00+00:99", "2024-01-01 00:00:00+0200",
            "2024-01-01 00:00:00+02",
            "2024-01-01 00:00:00 +02:00", "2024-01-01 00:00:00 UTC", "2024-01-01 00:00:00\u221202:00",
            "2024-01-01+02:00",
            "2024-01-01 00:00:00.1234567+00:00",
        ],
    ),
    (
        CENTS,
        [
            "1.555", "0.001", "-0.005", "1.555E0", "1E-3", "123456789.99", "1E+9", "007", "00.5", "+1.5", "1.",
            ".5", "1e2",
            "nan", "inf", " 1", "1.5.5", "E", "1E", "Ex", "", "1E+9999",
        ],
    ),
    (UNITS, ["1.5", "1" + "0" * 38, "15E-1"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "text", "value"), [(dtype, text, value) for dtype, table in ACCEPTED for text, value in table.items()]
)
def test_text_becomes_the_value(dtype: DataType, text: str, value: Any) -> None:
    typed = cast(dtype, text)
    assert typed.dtype == dtype
    assert typed.to_list() == [value]


@pytest.mark.parametrize(("dtype", "text"), [(dtype, text) for dtype, table in REFUSED for text in table])
def test_text_is_refused(dtype: DataType, text: str) -> None:
    with pytest.raises(CastError) as caught:
        cast(dtype, text)
    assert (caught.value.column, caught.value.row, caught.value.value, caught.value.dtype) == ("c", 0, text, dtype)


@pytest.mark.parametrize("dtype", sorted({dtype for dtype, _ in ACCEPTED}, key=str), ids=str)
def test_nulls_stay_null_beside_every_spelling(dtype: DataType) -> None:
    texts = {text: value for candidate, table in ACCEPTED if candidate == dtype for text, value in table.items()}
    typed = cast(dtype, None, *texts, None)
    assert typed.to_list() == [None, *texts.values(), None]
    assert cast(dtype).dtype == dtype
    assert cast(dtype, None).to_list() == [None]


@pytest.mark.parametrize("dtype", sorted({dtype for dtype, _ in REFUSED}, key=str), ids=str)
def test_first_stranger_among_good_values_is_named(dtype: DataType) -> None:
    good: list[str | None] = [text for candidate, table in ACCEPTED if candidate == dtype for text in table] or [None]
    for text in [text for candidate, table in REFUSED if candidate == dtype for text in table]:
        with pytest.raises(CastError) as caught:
            cast(dtype, *good, None, text, *good, text)
        assert (caught.value.row, caught.value.value) == (len(good) + 1, text)


def test_nanoseconds_are_kept() -> None:
    assert cast(NS, "2024-01-01 00:00:00.123456789").dt.nanosecond().item() == 123456789
    assert cast(pl.Time(), "00:00:00.123456789").dt.nanosecond().item() == 123456789


@pytest.mark.parametrize(
    ("dtype", "first", "last"),
    [
        (NS, "1677-09-21 00:12:43.145224193", "2262-04-11 23:47:16.854775807"),
        (ZONED_NS, "1677-09-21 00:12:43.145224193+00:00", "2262-04-11 23:47:16.854775807+00:00"),
        (pl.Datetime("ns", "Asia/Tokyo"), "1677-09-21 09:12:43.145224193+09:00", "2262-04-11 23:47:16.854775807"),
    ],
    ids=str,
)
def test_the_first_and_last_nanosecond_of_pandas_are_read(dtype: DataType, first: str, last: str) -> None:
    for usual in ([], [last.replace("2262", "2024")]):
        assert cast(dtype, *usual, first, last).to_physical().to_list()[-2:] == [1 - 2**63, 2**63 - 1]


def test_columns_come_in_the_schemas_order_and_unnamed_ones_are_left_out() -> None:
    text = pl.DataFrame({"a": ["1"], "b": ["x"], "c": ["True"]})
    typed = cast_block(text, pl.Schema({"c": pl.Boolean(), "a": pl.Int64()}))
    assert typed.rows() == [(True, 1)]
    assert typed.columns == ["c", "a"]


def is_rounded_to(text: str, value: float) -> bool:
    """Whether a number's text is a float, rounded to as many digits as the text has."""
    digits = len(Decimal(text).as_tuple().digits)
    return any(Decimal(f"{value:.{count}e}") == Decimal(text) for count in range(digits))


@settings(max_examples=examples(150), deadline=None)
@given(
    st.text("0123456789-+.eE: TZ_", max_size=26)
    | st.from_regex(r"\A-?[1-9][0-9]{14,18}(\.[0-9]{1,3})?\Z")
    | st.text(max_size=6),
    st.sampled_from([pl.Int64(), pl.Float64(), pl.Date(), pl.Time(), US, ZONED, CENTS]),
)
def test_no_text_is_taken_for_another_value(text: str, dtype: DataType) -> None:
    """What Python reads strictly is the oracle; a refusal is always allowed."""
    try:
        value = cast(dtype, text).item()
    except CastError:
        return
    if isinstance(value, int):
        assert value == Decimal(text)
    elif isinstance(value, float):
        assert text in ("nan", "NaN") or math.isinf(value) or is_rounded_to(text, value)
    elif isinstance(value, Decimal):
        assert value == Decimal(text)
    elif isinstance(value, datetime):
        text = with_four_digit_years(pl.Series([text]), declared=True).item()
        parsed = datetime.fromisoformat(text.replace("Z", "+00:00").ljust(19, "0") if len(text) > 19 else text)
        assert value == (parsed if parsed.tzinfo or dtype == US else parsed.replace(tzinfo=UTC))
    elif isinstance(value, date):
        assert value.isoformat() == with_four_digit_years(pl.Series([text]), declared=True).item()[:10]
    else:
        assert value.isoformat()[:8] == text[:8]


@settings(max_examples=60, deadline=None)
@given(st.datetimes(), st.sampled_from(["seconds", "milliseconds", "microseconds"]), st.integers(-14 * 60, 14 * 60))
def test_datetimes_of_any_spelling_are_read_as_python_reads_them(value: datetime, digits: Any, minutes: int) -> None:
    text = value.isoformat(" ", digits)
    assert cast(US, text).item() == datetime.fromisoformat(text)
    zoned = value.replace(year=min(max(value.year, 2), 9998), tzinfo=timezone(timedelta(minutes=minutes)))
    assert cast(ZONED, zoned.isoformat(" ", digits)).item() == datetime.fromisoformat(zoned.isoformat(" ", digits))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5), st.lists(st.floats(width=32, allow_nan=False)))
def test_every_float_that_pandas_writes_is_kept(doubles: list[float], singles: list[float]) -> None:
    assert cast(pl.Float64(), *map(repr, doubles)).to_list() == doubles
    assert cast(pl.Float32(), *(str(numpy.float32(single)) for single in singles)).to_list() == singles


def test_every_power_of_two_is_kept() -> None:
    """Beside a power of two, the shortest digits need not be the float rounded to as many digits."""
    powers = [2.0**exponent for exponent in range(-1074, 1024)]
    assert cast(pl.Float64(), *map(repr, powers)).to_list() == powers
