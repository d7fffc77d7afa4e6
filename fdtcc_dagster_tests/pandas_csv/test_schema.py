from __future__ import annotations

import re
from typing import Any

import polars as pl
import pytest
import pytz

from fdtcc_dagster.pandas_csv.schema import dtype_name, to_dtype, to_schema

PLAIN = [
    pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64,
    pl.Boolean, pl.String, pl.Date, pl.Time, pl.Categorical, pl.Datetime,
]  # fmt: skip


@pytest.mark.parametrize("dtype", PLAIN)
def test_class_instance_and_name_are_the_same_type(dtype: Any) -> None:
    expected = dtype()
    assert to_schema({"a": dtype}) == to_schema({"a": expected}) == to_schema({"a": dtype.__name__}) == {"a": expected}
    assert isinstance(to_schema({"a": dtype})["a"], pl.DataType)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("Utf8", pl.String()),
        (" Int64 ", pl.Int64()),
        ("Datetime(us)", pl.Datetime("us")),
        ("Datetime(ns, UTC)", pl.Datetime("ns", "UTC")),
        ("Datetime( 'ms' , \"Europe/Berlin\" )", pl.Datetime("ms", "Europe/Berlin")),
        ("Datetime (us, utc)", pl.Datetime("us", "UTC")),
        ("Datetime(us, europe/berlin)", pl.Datetime("us", "Europe/Berlin")),
        ("Datetime(us, +02:00)", pl.Datetime("us", "Etc/GMT-2")),
        ("Datetime(us, -0500)", pl.Datetime("us", "Etc/GMT+5")),
        ("Datetime(us, -00:00)", pl.Datetime("us", "UTC")),
        ("Decimal(10)", pl.Decimal(10, 0)),
        ("Decimal(10, 2)", pl.Decimal(10, 2)),
        ("Decimal(38, 38)", pl.Decimal(38, 38)),
        ("Enum(a)", pl.Enum(["a"])),
        ("Enum(low, very high)", pl.Enum(["low", "very high"])),
    ],
)
def test_name_with_arguments(name: str, dtype: pl.DataType) -> None:
    assert to_dtype("a", name) == dtype


def test_the_zones_that_polars_knows_are_told_without_it() -> None:
    utc = pl.Series([0], dtype=pl.Datetime("us", "UTC"))
    for zone in pytz.all_timezones:
        assert to_dtype("a", pl.Datetime("us", zone)) == utc.dt.convert_time_zone(zone).dtype


@pytest.mark.parametrize(
    "dtype", [pl.Datetime("ns", "UTC"), pl.Decimal(10, 2), pl.Enum(["x", "y"]), pl.Categorical(), pl.Datetime("ms")]
)
def test_instance_with_arguments_is_kept(dtype: pl.DataType) -> None:
    assert to_dtype("a", dtype) == dtype


def test_schema_of_polars_and_its_order_are_kept() -> None:
    schema = pl.Schema({"b": pl.Int64(), "a": pl.String(), "": pl.Date()})
    assert to_schema(schema) == schema
    assert list(to_schema({"z": "Int8", "a": "Int8"})) == ["z", "a"]


def test_decimal_without_precision_has_all_38_digits() -> None:
    assert to_dtype("a", pl.Decimal(None, 4)) == pl.Decimal(38, 4)


_REFUSED = (
    r"column 'speed': .* allowed are Int8, .*Datetime\(us, UTC\)|(Decimal|Enum) needs arguments; write it like \1\("
)


@pytest.mark.parametrize(
    "dtype",
    [
        pl.List(pl.Int64), pl.List, pl.Array(pl.Int8, 2), pl.Struct({"x": pl.Int8}), pl.Struct, pl.Duration,
        pl.Duration("us"), pl.Binary, pl.Object, pl.Null, pl.Unknown, pl.Int128, pl.Decimal, pl.Enum, int, str, bool,
        None, 3, [], "", "int64", "Integer", "List(Int64)", "Struct", "Duration", "Binary", "Object", "Int128",
        "Decimal",
        "Enum", "Int64()", "Int64(3)", "String(10)", "Datetime(us", "Datetime)", "pl.Int64", "Int64, Int32",
    ],
    ids=str,
)  # fmt: skip
def test_type_that_csv_text_cannot_hold_is_refused_by_name(dtype: object) -> None:
    with pytest.raises(ValueError, match=_REFUSED):
        to_schema({"ok": "Int64", "speed": dtype})


@pytest.mark.parametrize(
    "dtype",
    [
        "Datetime()", "Datetime(s)", "Datetime(UTC)", "Datetime(us, )", "Datetime(us, *)", "Datetime(us, Mars/Base)",
        "Datetime(us, UTC, x)", "Decimal()", "Decimal(a)", "Decimal(0)", "Decimal(39)", "Decimal(2, 5)",
        "Decimal(10, -1)",
        "Decimal(-1)", "Decimal(1, 1, 1)", "Enum()", "Enum(a, a)", "Enum(a, )", pl.Datetime("us", "Mars/Base"),
        pl.Datetime("us", "*"), pl.Enum([]), pl.Enum(["a", ""]),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_arguments_are_refused_with_an_example(dtype: object) -> None:
    with pytest.raises(
        ValueError, match=r"(?s)column 'speed': .*(write it like (Datetime|Decimal|Enum)\(|cannot be used:)"
    ):
        to_schema({"speed": dtype})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Datetime[us]", "Datetime(us)"),
        ("datetime[μs, UTC]", "Datetime(us, UTC)"),
        ("Decimal[12,2]", "Decimal(12, 2)"),
        ("int64", "Int64"),
        ("Int46", "Int64"),
        ("Boolen", "Boolean"),
        ("pl.String", "String"),
        ("datetime64[ns]", "Datetime(ns)"),
        (int, "Int64"),
        (str, "String"),
    ],
)
def test_a_type_that_is_spelled_otherwise_is_told_how_it_is_spelled(name: object, meant: str) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"{name!r} is not a data type that CSV text can hold; write {meant!r}; ")
    ):
        to_schema({"speed": name})


def test_a_type_that_yaml_has_divided_at_its_comma_is_told_that_it_needs_quotes() -> None:
    divided: dict[str, Any] = {"id": "Int64", "kind": "Enum(a", "b": None, "c)": None, "amount": "Int64"}
    with pytest.raises(ValueError, match=r'column \'kind\': .* write it in quotes, \{kind: "Enum\(a, b, c\)"\}'):
        to_schema(divided)


def test_a_misspelled_zone_is_told_which_one_is_meant() -> None:
    with pytest.raises(ValueError, match="'CEST' is unknown; give the region by its name"):
        to_dtype("at", "Datetime(us, CEST)")
    with pytest.raises(ValueError, match=r"'Europe/Berln' is unknown; did you mean 'Europe/Berlin'\?"):
        to_dtype("speed", pl.Datetime("us", "Europe/Berln"))


@pytest.mark.parametrize("name", ["List[Int64]", "Datetime[h]", "number", "Int128", dict])
def test_no_spelling_is_told_where_none_is_meant(name: object) -> None:
    with pytest.raises(ValueError, match="allowed are") as caught:
        to_schema({"speed": name})
    assert "write" not in str(caught.value)


@pytest.mark.parametrize("schema", [{}, None, [], "Int64", [("a", "Int64")]])
def test_schema_maps_at_least_one_column(schema: Any) -> None:
    with pytest.raises(ValueError, match="at least one column"):
        to_schema(schema)


@pytest.mark.parametrize("column", [1, None, b"a", ("a",)])
def test_column_name_is_a_string(column: Any) -> None:
    with pytest.raises(ValueError, match="must be a string"):
        to_schema({column: "Int64"})


@pytest.mark.parametrize(
    "name",
    ["Int64", "String", "Date", "Datetime(us)", "Datetime(ms, Europe/Berlin)", "Decimal(10, 2)", "Enum(low, high)"],
)
def test_a_type_is_written_as_it_is_read(name: str) -> None:
    assert dtype_name(to_dtype("column", name)) == name
