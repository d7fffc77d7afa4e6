"""Slices: history from one snapshot, in real runs."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import (
    FoundryDataset,
    Schedule,
)
from fdtcc_dagster.errors import RowCountMismatchError, SchemaMismatchError
from fdtcc_dagster.ingest.slices import Slices, cut
from fdtcc_dagster.metadata import values_of
from fdtcc_dagster.pandas_csv import blocks
from fdtcc_dagster.pandas_csv.source import CsvSource
from fdtcc_dagster.time_column import TimeColumn
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.fuzz import some_of
from fdtcc_dagster_tests.midday import utc_today
from fdtcc_dagster_tests.site import Site, failure_of

UTC = timezone.utc
MONDAYS = [{"cycle": "weekly", "day": "Monday", "time": "04:00:00"}]
ZONES = ["UTC", "Europe/Berlin", "America/New_York"]


def instants(first: datetime, last: datetime, bounds: Sequence[Window]) -> list[datetime]:
    """Random instants, and every bound to the microsecond: on it, before it and after it."""
    dice = random.Random(7)  # noqa: S311 (not for secrets)
    seconds = int((last - first).total_seconds())
    found = [first + timedelta(seconds=dice.randrange(seconds), microseconds=dice.randrange(10**6)) for _ in range(800)]
    for window in bounds:
        for bound in (window.from_dt, window.to_dt):
            found += [bound.astimezone(UTC) + timedelta(microseconds=step) for step in (-1, 0, 1)]
    return sorted(found)


def weekly(zone: str, **arguments: Any) -> FoundryDataset:
    return FoundryDataset("events", Schedule(MONDAYS, timezone=zone), "2025-01-06", time_column="at", **arguments)


def keys_of(dataset: FoundryDataset, count: int) -> list[str]:
    return list(dataset.partitions_def.get_partition_keys())[:count]


@pytest.mark.parametrize("zone", some_of(ZONES, lambda zone: zone == "Europe/Berlin"))
def test_52_weeks_are_one_pull_and_52_partitions_with_exactly_their_rows(site: Site, zone: str) -> None:
    dataset = weekly(zone, schema={"id": "Int64", "at": "Datetime(us, UTC)"})
    keys = keys_of(dataset, 52)
    windows = {key: dataset.window(key) for key in keys}
    times = instants(windows[keys[0]].from_dt, windows[keys[-1]].to_dt, list(windows.values()))
    site.container.set_live("events", pl.DataFrame({"id": range(len(times)), "at": times}))
    result = site.run(dataset, keys)
    assert result.success
    assert len(site.container.requests) == 1
    whole = pl.DataFrame({"id": range(len(times)), "at": times})
    for key, window in windows.items():
        since, until = window.from_dt.astimezone(UTC), window.to_dt.astimezone(UTC)
        expected = whole.filter((pl.col("at") >= since) & (pl.col("at") < until))
        assert expected.height > 0
        assert site.stored(key).equals(expected.with_columns(pl.col("at").dt.convert_time_zone("UTC")))
    assert sum(site.stored(key).height for key in keys) < whole.height  # some lie on the outer bounds
    assert site.instance.get_materialized_partitions(dg.AssetKey("events")) == set(keys)
    # A later run needs no other pull from Foundry either: the version is still newer than every slice's end.
    again = site.run(dataset, keys[:1])
    assert again.success
    (event,) = again.get_asset_materialization_events()
    materialization = event.step_materialization_data.materialization
    metadata = values_of(materialization)
    assert metadata["foundry/origin"] == "cached"
    assert metadata["foundry/window_from"] == windows[keys[0]].from_dt.timestamp()
    assert metadata["foundry/slice_rows"] == metadata["dagster/row_count"]
    assert metadata["foundry/snapshot_rows"] == whole.height
    # What is plotted is the slice's own.
    plotted = {name for name, value in materialization.metadata.items() if isinstance(value.value, (int, float))}
    assert plotted - {"foundry/unchanged", "foundry/rows_counted", "foundry/window_from", "foundry/window_to"} == {
        "dagster/row_count",
        "dagster/size_bytes",
    }


def test_slices_of_several_runs_have_every_row_once(site: Site) -> None:
    dataset = weekly("Europe/Berlin", schema={"id": "Int64", "at": "Datetime(us, UTC)"})
    keys = keys_of(dataset, 52)
    windows = {key: dataset.window(key) for key in keys}
    first, last = windows[keys[0]].from_dt, windows[keys[-1]].to_dt
    times = [at for at in instants(first, last, list(windows.values())) if first <= at < last]
    random.Random(3).shuffle(times)  # noqa: S311 (not for secrets)
    whole = pl.DataFrame({"id": range(len(times)), "at": times}, schema=dataset.schema)
    site.container.set_live("events", whole)
    # Ranges beside each other, one key alone, and some for the second time.
    for begin, end in ((0, 17), (17, 18), (30, 52), (18, 30), (10, 20)):
        assert site.run(dataset, keys[begin:end]).success
    assert sum(site.container.downloads.values()) == 4  # what is stored already is not pulled again
    for key, window in windows.items():
        since, until = window.from_dt.astimezone(UTC), window.to_dt.astimezone(UTC)
        assert site.stored(key).equals(whole.filter((pl.col("at") >= since) & (pl.col("at") < until)))
    stored = pl.concat([site.stored(key) for key in keys])
    assert stored.sort("id").equals(whole)


@pytest.mark.parametrize(
    ("dtype", "written"),
    [
        ("Datetime(us)", lambda t: t.strftime("%Y-%m-%d %H:%M:%S.%f")),
        ("Datetime(ms, Asia/Tokyo)", lambda t: t.isoformat(" ", "milliseconds")),
        ("String", lambda t: t.isoformat()),
        ("String", lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("String", lambda t: t.astimezone(ZoneInfo("Asia/Kolkata")).isoformat(" ")),
        (None, lambda t: t.strftime("%Y-%m-%d %H:%M:%S.%f")),
    ],
)
def test_times_are_naive_or_zoned_datetimes_or_iso_strings(site: Site, dtype: str | None, written: Any) -> None:
    schema = {"id": "Int64", "at": dtype} if dtype else None
    dataset = weekly("Europe/Berlin", schema=schema)
    keys = keys_of(dataset, 20)  # over the change of the clocks in March
    windows = {key: dataset.window(key) for key in keys}
    times = [
        time.replace(microsecond=0)
        for window in windows.values()
        for time in (window.from_dt.astimezone(UTC), window.to_dt.astimezone(UTC) - timedelta(seconds=1))
    ]
    csv = "id,at\n" + "".join(f"{number},{written(time)}\n" for number, time in enumerate(times))
    site.container.set_live("events", csv)
    assert site.run(dataset, keys).success
    assert [site.stored(key)["id"].to_list() for key in keys] == [[2 * n, 2 * n + 1] for n in range(len(keys))]


@pytest.mark.parametrize("zone", some_of([*ZONES, "Africa/Cairo"], lambda zone: zone == "Africa/Cairo"))
def test_declared_dates_begin_at_midnight_in_the_zone_of_the_partitions(site: Site, zone: str) -> None:
    # In Cairo, clocks go forward at midnight: 2025-04-25 begins at one.
    daily = dg.DailyPartitionsDefinition(start_date="2025-03-01", end_date="2025-05-01", timezone=zone)
    dataset = FoundryDataset("events", partitions_def=daily, schema={"id": "Int64", "day": "Date"}, time_column="day")
    days = [date(2025, 3, 1) + timedelta(days=number) for number in range(61)]
    site.container.set_live("events", "id,day\n" + "".join(f"{n},{day}\n" for n, day in enumerate(days)))
    keys = keys_of(dataset, 61)
    assert site.run(dataset, keys).success
    assert [site.stored(key)["id"].to_list() for key in keys] == [[number] for number in range(61)]


def test_rows_without_a_time_are_counted_and_refused_unless_allowed(site: Site) -> None:
    dataset = weekly("UTC", schema={"id": "Int64", "at": "Datetime(us, UTC)"})
    (key,) = keys_of(dataset, 1)
    inside = dataset.window(key).from_dt.isoformat(" ")
    site.container.set_live("events", f"id,at\n1,{inside}\n2,\n3,\n")
    text = failure_of(site.run(dataset, [key]))
    assert "no time in 2 of 3 rows, first in row 2: these belong to no slice" in text
    assert "allow_null_times=True" in text
    tolerant = weekly("UTC", schema={"id": "Int64", "at": "Datetime(us, UTC)"}, allow_null_times=True)
    assert site.run(tolerant, [key]).success
    assert site.stored(key)["id"].to_list() == [1]


def test_text_that_is_no_time_is_refused(site: Site) -> None:
    dataset = weekly("UTC", schema={"at": "String"})
    (key,) = keys_of(dataset, 1)
    site.container.set_live("events", "at\n2025-01-06T05:00:00Z\nsoon\n25-01-06\n25-01-06 05:00:00\n")
    assert "is no time of ISO 8601, as in 3 rows of 4" in failure_of(site.run(dataset, [key]))


def test_a_slice_that_is_not_over_says_when_it_is_and_the_others_are_stored(site: Site) -> None:
    today = utc_today(seconds=30)
    patient = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(days=3))
    dataset = FoundryDataset(
        "events", patient, today - timedelta(days=20), {"at": "Datetime(us, UTC)"}, time_column="at"
    )
    keys = list(dataset.partitions_def.get_partition_keys())
    # A key exists when its day is over, but its rows are complete only three days later.
    assert keys[-1] == (today - timedelta(days=1)).isoformat()
    site.container.set_live("events", "at\n2020-01-01 00:00:00+00:00\n")
    text = failure_of(site.run(dataset, keys[-5:]))
    assert "3 of 5 partitions failed" in text
    assert f"{keys[-1]}: NotYetAvailableError" in text
    assert f"{today + timedelta(days=3)}T00:00:00+00:00" in text
    assert site.instance.get_materialized_partitions(dg.AssetKey("events")) == set(keys[-5:-3])
    assert "NotYetAvailableError" in failure_of(site.run(dataset, keys[-1:]))
    assert len(site.container.requests) == 1


def test_a_version_from_before_the_end_of_a_slice_does_not_serve_it(site: Site) -> None:
    today = utc_today(seconds=30)
    daily = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0))
    dataset = FoundryDataset("events", daily, today - timedelta(days=9), {"at": "Datetime(us, UTC)"}, time_column="at")
    keys = list(dataset.partitions_def.get_partition_keys())
    end = dataset.window(keys[-1]).to_dt
    site.container.add_version("events", end - timedelta(seconds=1), "at\n")
    site.container.set_live("events", f"at\n2020-01-01 00:00:00+00:00\n{(end - timedelta(hours=1)).isoformat(' ')}\n")
    assert site.run(dataset, keys).success
    assert site.stored(keys[-1]).height == 1


@pytest.mark.parametrize(
    ("schema", "column", "message"),
    [
        ({"id": "Int64"}, "at", "no column of the schema"),
        ({"id": "Int64"}, "id", "it is an Int64, but must be a Datetime, a Date, or a String"),
    ],
)
def test_a_column_that_cannot_be_a_time_is_refused_at_once(schema: Any, column: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FoundryDataset("events", Schedule(MONDAYS), "2025-01-06", schema, time_column=column)


@pytest.mark.parametrize(
    ("csv", "message"), [("at\n17\n", "it is an Int64, but must be"), ("other\n17\n", "there is no such column")]
)
def test_an_inferred_column_that_cannot_be_a_time_is_refused_in_the_run(site: Site, csv: str, message: str) -> None:
    dataset = weekly("UTC")
    site.container.set_live("events", csv)
    assert message in failure_of(site.run(dataset, keys_of(dataset, 1)))


def test_a_cut_that_fails_leaves_nothing_and_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fdtcc_dagster.ingest.slices._HELD_BYTES", 0)
    day = datetime(2024, 1, 1, tzinfo=UTC)
    windows = {"first": Window(day, day + timedelta(days=1))}
    csv, schema = b"id,at\n1,2024-01-01\n2,2024-01-02\n", pl.Schema({"id": pl.Int64(), "at": pl.Date()})
    wrong = CsvSource(lambda: io.BytesIO(csv), announced_rows=3)
    with pytest.raises(RowCountMismatchError):
        cut(wrong, schema, TimeColumn("at"), windows, tmp_path)
    assert list(tmp_path.iterdir()) == []
    slices = cut(CsvSource(lambda: io.BytesIO(csv)), schema, TimeColumn("at"), windows, tmp_path)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
    assert slices.rows_of("first").collect()["id"].to_list() == [1]
    slices.remove("first")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (["", "2024-03-04", ""], "no time in 2 of 23 rows, first in row 21: "),
        (["2024-03-04", "soon", "later"], "row 22: 'soon' is no time of ISO 8601, as in 2 rows of 23"),
    ],
)
def test_the_first_row_is_counted_over_several_blocks(
    later: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks.record_blocks, "__defaults__", (64,))
    csv = ("id,at\n" + "".join(f"{n},{time}\n" for n, time in enumerate(["2024-03-03"] * 20 + later))).encode()
    windows = {"day": Window(DAY, DAY + timedelta(days=1))}
    schema = pl.Schema({"id": pl.Int64(), "at": pl.String()})
    with pytest.raises(SchemaMismatchError, match=re.escape(said)):
        cut(CsvSource(lambda: io.BytesIO(csv)), schema, TimeColumn("at"), windows, tmp_path)


DAY = datetime(2024, 3, 3, tzinfo=UTC)
"""The earliest time of the snapshots below."""


def cut_text(
    times: Sequence[str],
    dtype: Any,
    windows: Sequence[tuple[datetime, datetime]],
    directory: Path,
    zone: str = "UTC",
) -> Slices:
    """Cut a snapshot with these times, of an inferred type if it is None, into slices, whose keys are their numbers."""
    csv = ("id,at\n" + "".join(f"{number},{time}\n" for number, time in enumerate(times))).encode()
    column = TimeColumn("at", zone, allow_nulls=True)
    keyed = {str(number): Window(*bounds) for number, bounds in enumerate(windows)}
    schema = None if dtype is None else pl.Schema({"id": pl.Int64(), "at": dtype})
    return cut(CsvSource(lambda: io.BytesIO(csv)), schema, column, keyed, directory)


INFERRED = None


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    ("dtype", "times"),
    [
        (dtype, times)
        for dtypes, times in [
            # A column of midnights loses its time, in each batch for itself.
            ([INFERRED, pl.String(), pl.Datetime("us"), pl.Datetime("ms", "Asia/Tokyo")], ["{}", "2024-03-02"]),
            ([INFERRED, pl.String(), pl.Datetime("ns")], ["{}", "2024-03-02 10:00:00"]),
            ([INFERRED, pl.String(), pl.Datetime("us")], ["{} 00:00:00", "2024-03-02 10:00:00"]),
            ([INFERRED, pl.String(), pl.Datetime("ns", "UTC")], ["{} 00:00:00+00:00", "2024-03-02 10:00:00.5+00:00"]),
            ([INFERRED, pl.String(), pl.Datetime("us", "UTC")], ["{}", "2024-03-02 10:00:00+01:00"]),
            ([INFERRED, pl.String(), pl.Datetime("us", "UTC")], ["{}", "2024-03-02T10:00:00Z", ""]),
            ([INFERRED, pl.String(), pl.Datetime("us")], ["{}", "1-01-01 00:00:00.000000"]),
            ([INFERRED, pl.String(), pl.Datetime("us")], ["{}", "1-01-01"]),
        ]
        for dtype in dtypes
    ],
)
def test_an_instant_is_of_the_same_slice_whatever_other_rows_came_with_it(
    dtype: Any, times: Sequence[str], zone: str, tmp_path: Path
) -> None:
    times = [time.format(DAY.date()) for time in times]
    hour = timedelta(hours=1)
    slices = cut_text(times, dtype, [(DAY - 7 * hour, DAY), (DAY, DAY + hour)], tmp_path, zone)
    assert slices.counts == {"0": 0, "1": 1}
    assert slices.rows_of("1").collect()["id"].to_list() == [0]


@pytest.mark.parametrize("dtype", [pl.Datetime("ns"), pl.Datetime("ns", "Asia/Tokyo")])
def test_windows_may_reach_beyond_the_nanoseconds_of_64_bits(dtype: Any, tmp_path: Path) -> None:
    windows = [(datetime(1500, 1, 1, tzinfo=UTC), DAY), (DAY, datetime(2500, 1, 1, tzinfo=UTC))]
    assert cut_text(["1999-01-01", "2024-03-03"], dtype, windows, tmp_path).counts == {"0": 1, "1": 1}


@pytest.mark.parametrize("dtype", [INFERRED, pl.Date()])
def test_a_byte_order_mark_is_no_part_of_the_time_column_s_name(dtype: Any, tmp_path: Path) -> None:
    source = CsvSource(lambda: io.BytesIO('"\ufeffat"\n2024-03-03\n'.encode()))
    windows = {"day": Window(DAY, DAY + timedelta(days=1))}
    schema = None if dtype is None else pl.Schema({"at": dtype})
    assert cut(source, schema, TimeColumn("at"), windows, tmp_path).counts == {"day": 1}


@pytest.mark.parametrize("year", ["1", "124", "999"])
@pytest.mark.parametrize("dtype", [INFERRED, pl.String(), pl.Datetime("us"), pl.Datetime("ms", "UTC")], ids=str)
def test_years_below_1000_are_the_earliest_ones(year: str, dtype: Any, tmp_path: Path) -> None:
    day = DAY.replace(year=int(year))
    written = day.strftime("-%m-%d 00:00:00.000000")
    times = ["2024-03-03 00:00:00.000000", f"{year}{written}", f"{year:0>4}{written}"]
    slices = cut_text(times, dtype, [(day, day + timedelta(days=1)), (DAY, DAY + timedelta(days=1))], tmp_path)
    assert slices.counts == {"0": 2, "1": 1}
    assert slices.begins == f"{year:0>4}-03-03T00:00:00+00:00"


@pytest.mark.parametrize(
    ("dtype", "written"),
    [
        (pl.Datetime("us"), "%Y-%m-%d %H:%M:%S"),
        (pl.Datetime("ms", "UTC"), "%Y-%m-%d %H:%M:%S+00:00"),
        (pl.Datetime("ns", "Asia/Tokyo"), "%Y-%m-%d %H:%M:%S+00:00"),
        (pl.String(), "%Y-%m-%dT%H:%M:%SZ"),
        (pl.String(), "%Y-%m-%d"),
        (pl.Date(), "%Y-%m-%d"),
    ],
)
def test_windows_that_begin_before_the_earliest_time_of_all_rows_are_outgrown(
    dtype: Any, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several blocks; the earliest time is neither in the first one nor in a slice.
    monkeypatch.setattr(blocks.record_blocks, "__defaults__", (64,))
    times = [(DAY + timedelta(days=number * 7 % 30)).strftime(written) for number in range(1, 61)]
    day = timedelta(days=1)
    windows = [(DAY + number * day, DAY + (number + 1) * day) for number in (-2, -1, 1, 2)]
    found = cut_text(times, dtype, windows, tmp_path)
    assert found.outgrown == {"0", "1"}
    assert found.begins == ("2024-03-03" if isinstance(dtype, pl.Date) else "2024-03-03T00:00:00+00:00")
    (tmp_path / "other").mkdir()
    begin = cut_text(times, dtype, [(DAY, DAY + day)], tmp_path / "other")
    assert begin.outgrown == frozenset()
    assert begin.counts == {"0": 2}


@pytest.mark.parametrize("dtype", [pl.Datetime("us"), pl.Datetime("us", "Asia/Tokyo"), pl.String()])
def test_an_instant_too_early_is_too_early(dtype: Any, tmp_path: Path) -> None:
    times = [(DAY + timedelta(days=2)).isoformat(" "), "", DAY.isoformat(" ")]
    if dtype == pl.Datetime("us"):
        times = [time.removesuffix("+00:00") for time in times]
    before = (DAY - timedelta(microseconds=1), DAY)
    assert cut_text(times, dtype, [before, (DAY, DAY + timedelta(days=1))], tmp_path).outgrown == {"0"}


def test_a_window_that_begins_within_a_day_has_dates_from_the_next_one_on(tmp_path: Path) -> None:
    noon = timedelta(hours=12)
    windows = [(DAY - 2 * noon, DAY - noon), (DAY - noon, DAY), (DAY, DAY + noon)]
    assert cut_text(["2024-03-03"], pl.Date(), windows, tmp_path).outgrown == {"0"}


@pytest.mark.parametrize("times", [[], ["", ""]], ids=["no rows", "only nulls"])
def test_a_snapshot_without_any_time_has_outgrown_all_windows(times: Sequence[str], tmp_path: Path) -> None:
    found = cut_text(times, pl.Date(), [(DAY, DAY + timedelta(days=1))], tmp_path)
    assert found.outgrown == {"0"}
    assert found.begins is None


def test_the_spool_s_name_is_no_pattern(tmp_path: Path) -> None:
    directory = tmp_path / "[spool]*"
    directory.mkdir()
    slices = cut_text(["2024-03-03 12:00:00"] * 2, pl.Datetime("us"), [(DAY, DAY + timedelta(days=1))], directory)
    assert slices.rows_of("0").collect()["id"].to_list() == [0, 1]
