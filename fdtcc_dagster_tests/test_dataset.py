from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster.calendar.schedule import Refresh, Schedule
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.due import newest_due
from fdtcc_dagster.errors import ScheduleError
from fdtcc_dagster_tests.calendar.test_schedule import FIRST_LAST_AND_FRIDAYS, at

UTC = dt.timezone.utc
DAILY = dg.DailyPartitionsDefinition(start_date="2024-01-01", timezone="Europe/Berlin", end_offset=1)
START = dt.date(2024, 1, 1)


@pytest.mark.parametrize(
    "start", [START, "2024-01-01", dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=UTC)], ids=repr
)
def test_a_start_is_a_date_however_it_is_written(start: Any) -> None:
    assert FoundryDataset("orders", FIRST_LAST_AND_FRIDAYS, start).start == START


def test_a_schedule_becomes_partitions_once_and_lazily() -> None:
    dataset = FoundryDataset("orders", FIRST_LAST_AND_FRIDAYS, START)
    assert "partitions_def" not in vars(dataset)
    assert dataset.partitions_def is dataset.partitions_def
    assert dataset.partitions_def.cron_schedule == "0 0 1,L * 5"
    assert dataset.partitions_def.get_partition_keys(current_time=at("2024-01-06"))[-1] == "2024-01-05"


def test_a_window_with_a_schedule_lies_between_an_availability_and_the_next_refresh() -> None:
    dataset = FoundryDataset("orders", FIRST_LAST_AND_FRIDAYS, START)
    window = dataset.window("2024-03-01", now=at("2024-03-01 05:00"))
    assert (window.from_dt, window.to_dt) == (at("2024-03-01 04:00"), at("2024-03-01 23:15"))
    with pytest.raises(ScheduleError, match="lies before the start, 2024-01-01") as caught:
        dataset.window("2023-12-29")
    assert caught.value.dataset == "orders"


def test_a_window_of_own_partitions_has_their_bounds() -> None:
    window = FoundryDataset("orders", partitions_def=DAILY).window("2024-03-31")
    assert (window.from_dt, window.to_dt) == (at("2024-03-30 23:00"), at("2024-03-31 22:00"))
    assert window.from_dt.tzinfo is UTC


def test_both_passes_of_a_repeated_hour_have_a_window() -> None:
    hourly = dg.HourlyPartitionsDefinition(start_date="2024-01-01-00:00", timezone="Europe/Berlin")
    dataset = FoundryDataset("orders", partitions_def=hourly)
    first, second = dataset.window("2024-10-27-02:00"), dataset.window("2024-10-27-02:00+0100")
    assert (first.from_dt, first.to_dt) == (at("2024-10-27 00:00"), at("2024-10-27 01:00"))
    assert (second.from_dt, second.to_dt) == (at("2024-10-27 01:00"), at("2024-10-27 02:00"))


@pytest.mark.parametrize("key", ["2024-1-2", "rubbish", "2023-12-31", "", None])
def test_a_key_that_own_partitions_do_not_have_is_refused(key: Any) -> None:
    with pytest.raises(ScheduleError, match="partition key"):
        FoundryDataset("orders", partitions_def=DAILY).window(key)


def test_a_week_has_no_key_in_its_middle() -> None:
    weekly = dg.WeeklyPartitionsDefinition(start_date="2024-01-07")
    with pytest.raises(ScheduleError, match="the next one after it is '2024-01-14'"):
        FoundryDataset("orders", partitions_def=weekly).window("2024-01-09")


@pytest.mark.parametrize(
    "schema",
    [
        {"id": pl.Int64, "at": pl.Datetime("us", "UTC"), "price": pl.Decimal(10, 2)},
        pl.Schema({"id": pl.Int64(), "at": pl.Datetime("us", "UTC"), "price": pl.Decimal(10, 2)}),
        {"id": "Int64", "at": "Datetime(us, UTC)", "price": "Decimal(10, 2)"},
    ],
)
def test_a_schema_is_normalized(schema: Any) -> None:
    dataset = FoundryDataset("orders", partitions_def=DAILY, schema=schema)
    assert dataset.schema == pl.Schema({"id": pl.Int64(), "at": pl.Datetime("us", "UTC"), "price": pl.Decimal(10, 2)})
    assert isinstance(dataset.schema, pl.Schema)


def test_datasets_are_values() -> None:
    def declare() -> FoundryDataset:
        return FoundryDataset(
            "orders", FIRST_LAST_AND_FRIDAYS, START, {"id": "Int64"}, asset_key="sales/orders", tags={"tier": "1"}
        )

    dataset = declare()
    assert dataset == declare()
    assert hash(dataset) == hash(declare())
    assert dataset.asset_key == dg.AssetKey(["sales", "orders"])
    with pytest.raises(AttributeError):
        dataset.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": ""}, "dataset's name .* not ''"),
        ({"name": "  "}, "dataset's name .* not '  '"),
        ({"name": None}, "dataset's name .* not None"),
        ({"name": "ri.foundry.main.dataset.0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"}, "not a RID"),
        ({"start": dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))}, "a datetime at midnight"),
        ({"schedule": None}, "give either a schedule and a start, or a partitions_def"),
        ({"partitions_def": DAILY}, "give either a schedule and a start, or a partitions_def"),
        ({"schedule": "0 0 * * *"}, "is no Schedule"),
        ({"start": None}, "start=None is not allowed; with a schedule, give a date"),
        ({"start": "1 January 2024"}, "start='1 January 2024'"),
        ({"start": "20240101"}, "start='20240101'"),
        ({"start": "2024-13-01"}, "start='2024-13-01'"),
        ({"start": dt.datetime(2024, 1, 1, 2)}, "a datetime at midnight"),
        ({"schedule": None, "partitions_def": DAILY}, "goes with a schedule only"),
        ({"schedule": None, "start": None, "partitions_def": dg.StaticPartitionsDefinition(["a"])}, "is no TimeWindow"),
        ({"missing_version": "ignore"}, "missing_version='ignore' is not allowed; give 'raise' or 'accept'"),
        ({"missing_version": "Accept"}, "'orders': missing_version='Accept' .*; did you mean 'accept'"),
        ({"schema": {"id": "Integer"}}, "Integer"),
        ({"column_descriptions": {"id": "Number."}}, "'orders': column_descriptions need a schema"),
        ({"schema": {"id": "Int64"}, "column_descriptions": {"idd": "Number."}}, "no column .*; did you mean 'id'"),
        ({"schema": {"id": "Int64"}, "column_descriptions": {"id": 1}}, "description of 'id' must be text, not 1"),
        ({"schema": {"id": "Int64"}, "column_descriptions": "Number."}, "must map columns"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FoundryDataset(**{"name": "orders", "schedule": FIRST_LAST_AND_FRIDAYS, "start": START, **arguments})


def test_three_hundred_datasets_are_declared_at_once() -> None:
    def declare(number: int) -> FoundryDataset:
        schedule = Schedule([Refresh("monthly", -1 - number % 28, f"{number % 24:02}:00:00")])
        return FoundryDataset(f"dataset_{number}", schedule, START)

    assert len({declare(number) for number in range(300)}) == 300


def test_a_dataset_is_pickled_with_its_calendar_and_partitions() -> None:
    hard = Schedule([Refresh("monthly", -2, "04:00:00")], timezone="Europe/Berlin")
    dataset = FoundryDataset("orders", hard, START, {"at": "Datetime(us, Europe/Berlin)"}, time_column="at")
    keys = dataset.partitions_def.get_partition_keys(current_time=at("2024-06-01"))
    twin = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert twin == dataset
    assert twin.partitions_def.get_partition_keys(current_time=at("2024-06-01")) == keys


HARD = Schedule([Refresh("monthly", -2, "23:00:00"), Refresh("monthly", -2, "04:00:00")], timezone="Europe/Berlin")
SINCE = at("2024-03-15")


@pytest.mark.parametrize(
    "dataset",
    [
        FoundryDataset("orders", FIRST_LAST_AND_FRIDAYS, START),
        FoundryDataset("orders", FIRST_LAST_AND_FRIDAYS, START, time_column="at"),
        FoundryDataset("orders", HARD, START),
        FoundryDataset("orders", HARD, START, time_column="at"),
        FoundryDataset("orders", partitions_def=DAILY),
        FoundryDataset("orders", partitions_def=DAILY, time_column="at"),
    ],
    ids=["snapshots", "slices", "hard", "hard slices", "own", "own slices"],
)
def test_windows_are_listed_from_the_current_partition_on(dataset: FoundryDataset) -> None:
    found = dataset.windows(SINCE, 5)
    keys = dataset.partitions_def.get_partition_keys(current_time=at("2024-12-31"))
    first = keys.index(found[0].partition_key)
    assert [each.partition_key for each in found] == keys[first : first + 5]
    assert [each.window for each in found] == [dataset.window(each.partition_key) for each in found]
    # The first one is current: it has begun, and the next one has not.
    assert found[0].window.from_dt <= SINCE < found[1].window.from_dt
    for each in found:
        for tick in each.requested_at:
            (due,) = newest_due(dataset, tick, 1, after=tick - dt.timedelta(minutes=1))
            assert due.partition_key == each.partition_key
            assert tick >= each.available_at or len(each.requested_at) > 1
    assert all(each.requested_at for each in found) is (dataset.schedule is not None)


def test_windows_begin_with_the_start_and_end_with_the_definition() -> None:
    dataset = FoundryDataset("orders", FIRST_LAST_AND_FRIDAYS, START)
    assert [each.partition_key for each in dataset.windows(at("2020-01-01"), 2)] == ["2024-01-01", "2024-01-05"]
    ending = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-01-03")
    own = FoundryDataset("orders", partitions_def=ending)
    assert [each.partition_key for each in own.windows(at("2020-01-01"))] == ["2024-01-01", "2024-01-02"]
    assert len(dataset.windows()) == 10
    for each in (dataset, own):
        with pytest.raises(ScheduleError, match=r"since=datetime.datetime\(2024, 1, 1, 0, 0\) is not .* time zone"):
            each.windows(dt.datetime(2024, 1, 1))
        with pytest.raises(ValueError, match="count=-1 is not allowed"):
            each.windows(count=-1)
