"""Columns with any names: patterns of Polars, names that ours might have, and what else a CSV's header can hold."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdtcc_dagster import (
    FoundryDataset,
    Schedule,
)
from fdtcc_dagster.ingest.slices import cut
from fdtcc_dagster.pandas_csv.cast import transform
from fdtcc_dagster.pandas_csv.source import CsvSource
from fdtcc_dagster.sandbox.pandas_csv import to_pandas_csv
from fdtcc_dagster.time_column import TimeColumn
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.fuzz import examples, some_of
from fdtcc_dagster_tests.midday import TODAY, ZONE, midnight
from fdtcc_dagster_tests.site import Site, materializations

UTC = timezone.utc
PATTERNS = ["*", "^a$", "^.*$", "^b.*$", "a", "b", "`a`", ""]
OURS = ["__fdtcc_interval", "__fdtcc_instant", "_", "__", "text", "number", "0", "1", "literal", "len", "column_0"]
OTHERS = ["a.b", "a,b", 'a"b', "a\nb", " ", "é", "数据", "a/b", "$1", "\\d", "{a}", "id"]
NAMES = PATTERNS + OURS + OTHERS
# A carriage return or NUL is no part of a header, and a BOM at the very beginning is none of the first name.
letters = st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0\ufeff")
names = st.sampled_from(NAMES) | st.text(letters, max_size=5)
BEGIN = datetime(2024, 1, 1)
CELLS: list[list[Any]] = [
    [1, 2, 3, 4],
    [1.5, 2.5, -0.5, 1e300],
    ["x", "007", "*", "^a$"],
    [True, False, True, True],
    [BEGIN.date() + timedelta(days=day) for day in range(4)],
    [BEGIN + timedelta(microseconds=second) for second in range(4)],
]
TIMES = [BEGIN + timedelta(hours=12 * step, microseconds=step) for step in range(4)]
WINDOWS = {
    day.date().isoformat(): Window(day, day + timedelta(days=1))
    for day in (BEGIN.replace(tzinfo=UTC), BEGIN.replace(tzinfo=UTC) + timedelta(days=1))
}


def frame_of(columns: list[str], time: str | None) -> pl.DataFrame:
    """A frame with a time column, if any, and others of several types."""
    cells = [CELLS[number % len(CELLS)] for number, _ in enumerate(columns)]
    return named([*columns, *([] if time is None else [time])], [*cells, *([] if time is None else [TIMES])])


def named(columns: list[str], cells: list[Any]) -> pl.DataFrame:
    """A frame, made under other names, because Polars itself takes some of them for patterns."""
    frame = pl.DataFrame({str(number): values for number, values in enumerate(cells)})
    frame.columns = columns
    return frame


def source_of(frame: pl.DataFrame) -> CsvSource:
    csv = to_pandas_csv(frame)
    return CsvSource(lambda: nullcontext(io.BytesIO(csv)), frame.height, "d", None)


def stored(frame: pl.LazyFrame, directory: Path) -> pl.DataFrame:
    frame.sink_parquet(directory / "stored.parquet")
    return pl.read_parquet(directory / "stored.parquet")


@given(columns=st.lists(names, min_size=1, max_size=8, unique=True), declared=st.booleans(), data=st.data())
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_columns_are_read_by_their_very_names(columns: list[str], declared: bool, data: st.DataObject) -> None:
    time = data.draw(st.sampled_from(columns))
    frame = frame_of([name for name in columns if name != time], time)
    schema = frame.schema if declared else None
    with tempfile.TemporaryDirectory() as directory:
        rows = source_of(frame).scan(schema)
        assert stored(rows, Path(directory)).equals(frame)
        assert source_of(frame).read(schema, lambda csv: csv.scan().collect()).equals(frame)
        # What a reader asks for comes from columns of these names too.
        number = columns.index(data.draw(st.sampled_from(columns)))
        assert rows.select(pl.nth(number)).collect().equals(frame.to_series(number).to_frame())
        assert rows.filter(pl.nth(number).is_not_null()).collect().equals(frame)
        slices = cut(source_of(frame), schema, TimeColumn(time), WINDOWS, Path(directory))
        for key, two in zip(WINDOWS, (frame[:2], frame[2:]), strict=True):
            assert slices.rows_of(key).collect().equals(two)


@pytest.mark.parametrize("name", NAMES)
def test_a_column_that_is_cast_again_is_its_own(name: str) -> None:
    """Spellings besides the usual one: midnights without their time, integers with nulls, dates with a time."""
    other = "a" if name != "a" else "^a$"
    midnights = [BEGIN, BEGIN + timedelta(days=1), None]
    frame = named([other, name], [["x", "y", "z"], midnights])
    assert source_of(frame).scan(frame.schema).collect().equals(frame)
    integers = named([other, name], [[2**60, 1, 2], [1, None, 3]])
    assert source_of(integers).scan(integers.schema).collect().equals(integers)


def test_functions_of_columns_leave_names_and_order() -> None:
    frame = named(NAMES, [[number] for number, _ in enumerate(NAMES)])
    doubled = transform(frame, {"*": lambda c: c * 10, "^a$": lambda c: c * 10})
    assert doubled.columns == NAMES
    assert doubled.row(0) == (0, 10, *range(2, len(NAMES)))


def run(site: Site, dataset: FoundryDataset, key: str) -> tuple[pl.DataFrame, Mapping[str, Any]]:
    """Materialize a partition, have a downstream asset read it, and give what that read and the metadata."""
    read: list[pl.DataFrame] = []

    @dg.asset(ins={"upstream": dg.AssetIn(dg.AssetKey("wide"))}, partitions_def=dataset.partitions_def)
    def reader(upstream: pl.LazyFrame) -> None:
        read.append(upstream.collect())

    result = site.run(dataset, key, reader)
    assert result.success
    return read[0], materializations(result, "wide")[key].metadata


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "inferred"])
@pytest.mark.parametrize(
    "time", some_of([None, "*", "^a$", "^.*$", "__fdtcc_interval"], lambda name: name in (None, "^.*$"))
)
def test_a_run_stores_columns_of_any_name(site: Site, time: str | None, declared: bool) -> None:
    day = midnight(TODAY - timedelta(days=1))
    frame = frame_of([name for name in NAMES if name != time], None)
    if time is not None:
        times = pl.Series([day + timedelta(hours=step) for step in (-30, 1, 2, 30)])
        frame = frame.with_columns(times.dt.convert_time_zone("UTC").alias(time))
    site.container.set_live("wide", frame)
    dataset = FoundryDataset(
        "wide",
        Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0), timezone=ZONE),
        TODAY - timedelta(days=9),
        frame.schema if declared else None,
        time_column=time,
    )
    rows, metadata = run(site, dataset, (TODAY if time is None else day.date()).isoformat())
    expected = frame if time is None else frame[1:3]
    assert rows.equals(expected)
    assert [column.name for column in metadata["dagster/column_schema"].schema.columns] == expected.columns
