"""Frames of every supported type, written by pandas: the same values are read, or one that does not fit is named."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdtcc_dagster.errors import SchemaMismatchError
from fdtcc_dagster.pandas_csv.source import CsvSource
from fdtcc_dagster_tests.fuzz import examples
from fdtcc_dagster_tests.pandas_csv.test_source import in_blocks_of, utf8_texts

LOCAL = pl.Datetime("us", "America/Sao_Paulo")
INTEGERS = {
    dtype: st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)
    for signed, dtypes in (
        (True, (pl.Int8, pl.Int16, pl.Int32, pl.Int64)),
        (False, (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)),
    )
    for bits, dtype in zip((8, 16, 32, 64), dtypes, strict=True)
}  # fmt: skip
years = (datetime(1900, 1, 1), datetime(2250, 1, 1))
# Earlier ones have offsets with seconds in them, which are refused.
instants = st.datetimes(datetime(1920, 1, 1), datetime(2250, 1, 1), timezones=st.just(timezone.utc))
CATEGORIES = ["low", "high", "a,b", 'a"b', "a\nb", "007", " "]
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    **{dtype(): values for dtype, values in INTEGERS.items()},
    pl.Float64(): st.floats(allow_nan=False),
    pl.Float32(): st.floats(allow_nan=False, width=32),
    pl.Boolean(): st.booleans(),
    pl.String(): utf8_texts.filter(bool),
    pl.Categorical(): st.sampled_from(CATEGORIES),
    pl.Enum(CATEGORIES): st.sampled_from(CATEGORIES),
    pl.Date(): st.dates(date(1, 1, 1)),
    pl.Time(): st.times(),
    pl.Datetime("ms"): st.datetimes(*years).map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)),
    pl.Datetime("us"): st.datetimes(*years),
    pl.Datetime("us", "UTC"): instants,
    LOCAL: instants,
    pl.Decimal(20, 4): st.decimals(-(10**15), 10**15, places=4).map(lambda d: d.quantize(Decimal("0.0001"))),
}


def to_pandas(cells: list[Any], dtype: Any) -> Any:
    """A column as a pandas user has it."""
    if isinstance(dtype, pl.Datetime):
        stamps = pd.Series(pd.to_datetime(pd.Series(cells, dtype="object"), utc=dtype.time_zone is not None))
        stamps = stamps.astype(f"datetime64[{dtype.time_unit}{', UTC' if dtype.time_zone else ''}]")
        return stamps.dt.tz_convert(dtype.time_zone) if dtype.time_zone else stamps
    if dtype.is_integer():
        return pd.Series(cells, dtype=type(dtype).__name__)
    if isinstance(dtype, (pl.Float32, pl.Float64)):
        return pd.Series(cells, dtype=type(dtype).__name__.lower())
    return pd.Series(cells, dtype="object")


@st.composite
def frames(draw: st.DrawFn) -> tuple[dict[str, list[Any]], pl.Schema]:
    dtypes = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=6))
    height = draw(st.integers(0, 7))
    names = draw(st.lists(utf8_texts, min_size=len(dtypes), max_size=len(dtypes), unique=True))
    # A bare carriage return or a byte order mark makes no header.
    names = [f"{number}{name}".replace("\r", "") for number, name in enumerate(names)]
    cells = {
        name: draw(st.lists(st.none() | VALUES[dtype], min_size=height, max_size=height))
        for name, dtype in zip(names, dtypes, strict=True)
    }
    return cells, pl.Schema(zip(names, dtypes, strict=True))


def written(tmp_path: Path, cells: dict[str, list[Any]], schema: pl.Schema) -> CsvSource:
    text = pd.DataFrame({name: to_pandas(cells[name], dtype) for name, dtype in schema.items()}).to_csv(index=False)
    path = tmp_path / "snapshot.csv"
    path.write_bytes(text.encode())
    height = len(next(iter(cells.values())))
    return CsvSource(lambda: path.open("rb"), height, "cars")


def as_text(source: CsvSource) -> list[list[str]]:
    """The records as Python reads them; for Python a bare carriage return would end one."""
    buffer = bytearray(1 << 22)
    with source.opener() as file:
        size = file.readinto(memoryview(buffer))
        assert size is not None
        assert size < len(buffer)
    text = buffer[:size].decode().replace("\r", "\uf8ff")
    return [[cell.replace("\uf8ff", "\r") for cell in record] for record in csv.reader(io.StringIO(text, newline=""))][
        1:
    ]


def expected(cell: Any, dtype: Any) -> Any:
    if isinstance(dtype, pl.Datetime) and dtype.time_zone and cell is not None:
        return cell.astimezone(ZoneInfo(dtype.time_zone))
    return cell


sizes = st.sampled_from([1, 2, 7, 64, 1 << 24]) | st.integers(1, 300)
in_one_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


@settings(in_one_file, max_examples=examples(250))
@given(frames(), sizes)
def test_what_was_written_is_what_is_read(
    tmp_path: Path, frame: tuple[dict[str, list[Any]], pl.Schema], size: int
) -> None:
    cells, schema = frame
    source = written(tmp_path, cells, schema)
    with pytest.MonkeyPatch.context() as patch:
        in_blocks_of(size, patch)
        read = source.scan(schema).collect()
    assert read.schema == schema
    for name, dtype in schema.items():
        assert read[name].to_list() == [expected(cell, dtype) for cell in cells[name]]


def same(text: str, value: Any) -> bool:
    """Whether a value read is what a text says, by Python's own reading of it."""
    if isinstance(value, bool):
        return text == str(value)
    if isinstance(value, (int, float, Decimal)):
        return Decimal(text) == value if isinstance(value, (int, Decimal)) else float(text) == value
    if isinstance(value, datetime):
        said = datetime.fromisoformat(text)
        return said.astimezone(timezone.utc) == value if value.tzinfo else said == value
    if isinstance(value, date):
        return text == value.isoformat()
    return text == value if value is not None else not text


@settings(in_one_file, max_examples=examples(250))
@given(frames(), sizes)
def test_inferred_types_change_no_value(
    tmp_path: Path, frame: tuple[dict[str, list[Any]], pl.Schema], size: int
) -> None:
    cells, schema = frame
    source = written(tmp_path, cells, schema)
    with pytest.MonkeyPatch.context() as patch:
        in_blocks_of(size, patch)
        read = source.scan().collect()
        # With the types of the first block, as far as they hold, it is the same.
        assert source.read(None, lambda csv: csv.scan().collect()).equals(read)
    for number, dtype in enumerate(schema.values()):
        column = read.to_series(number)
        if column.dtype == pl.Datetime("ns") or column.dtype == pl.Datetime("ns", "UTC"):
            continue  # Python has no nanoseconds
        for record, value in zip(as_text(source), column.to_list(), strict=True):
            assert same(record[number], value), (dtype, record[number], value)


def says(text: str, value: Any, dtype: Any) -> bool:
    """Whether a value of a declared type is what a text says: as `same`, with what pandas may have written for it."""
    if isinstance(value, (bool, int)) and not isinstance(value, bool) and text.endswith(".0"):
        return abs(value) < 2**53 and same(text.removesuffix(".0"), value)
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if isinstance(dtype, pl.Float32) and value is not None:
        return bool(pl.Series([float(text)]).cast(pl.Float32)[0] == value)
    if type(value) is date:
        return value.isoformat() == text[:10] and set(text[10:]) <= set(" T00:00:00.0Z+")
    return same(text, value)


@settings(in_one_file, max_examples=examples(250))
@given(frames(), st.data(), sizes)
def test_a_misfit_is_named_by_its_row_and_column(
    tmp_path: Path, frame: tuple[dict[str, list[Any]], pl.Schema], data: st.DataObject, size: int
) -> None:
    """Declared types at random: they are kept to the letter, or the first text that is no such value is named."""
    cells, schema = frame
    source = written(tmp_path, cells, schema)
    name = data.draw(st.sampled_from(list(schema)))
    other = data.draw(st.sampled_from([dtype for dtype in VALUES if not isinstance(dtype, pl.Time)]))
    declared = pl.Schema({**schema, name: other})
    number, records = list(schema).index(name), as_text(source)
    error: SchemaMismatchError | None = None
    with pytest.MonkeyPatch.context() as patch:
        in_blocks_of(size, patch)
        try:
            read = source.read(declared, lambda csv: csv.scan().collect())
        except SchemaMismatchError as caught:
            error = caught
    if error is None:
        assert read.schema == declared
        assert read.height == len(records)
        for record, value in zip(records, read[name].to_list(), strict=True):
            assert says(record[number], value, other), (other, record[number], value)
        return
    assert error.column == name
    assert error.row is not None
    assert error.value == records[error.row - 1][number]
    before = written(tmp_path, {column: values[: error.row - 1] for column, values in cells.items()}, schema)
    assert before.scan(declared).collect().height == error.row - 1
    assert f"column {name!r}, row {error.row}: {error.value!r}" in str(error)
