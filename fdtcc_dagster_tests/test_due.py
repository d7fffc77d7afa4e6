from __future__ import annotations

import datetime as dt

import dagster as dg
import pytest

from fdtcc_dagster.calendar.schedule import Refresh, Schedule
from fdtcc_dagster.calendar.ticks import key_delay, tick_of
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import declaration_of
from fdtcc_dagster.due import is_there, newest_due
from fdtcc_dagster_tests.calendar.test_schedule import FIRST_LAST_AND_FRIDAYS, at
from fdtcc_dagster_tests.test_schedules import CALENDARS

UTC = dt.timezone.utc
NONE = dt.timedelta(0)
TWICE = Schedule([{"cycle": "daily", "time": "06:00:00"}, {"cycle": "daily", "time": "18:00:00"}])
ORDERS = dg.AssetKey("orders")


def keys(dataset: FoundryDataset, now: str, limit: int = 3, after: str | None = None) -> list[str]:
    return [due.partition_key for due in newest_due(dataset, at(now), limit, None if after is None else at(after))]


@pytest.mark.parametrize("name", CALENDARS)
def test_the_newest_partitions_are_those_of_the_calendar(name: str) -> None:
    calendar = CALENDARS[name]
    dataset = FoundryDataset("orders", calendar, "2027-06-01")
    delay = key_delay(dataset.partitions_def)
    refreshes = calendar.refreshes(at("2027-05-31"), at("2029-01-01"))
    ticks = [
        (tick_of(calendar, refresh, delay), refresh) for refresh in refreshes if refresh.date() >= dt.date(2027, 6, 1)
    ]
    for number in range(0, 5_000, 79):
        now = at("2027-06-01") + number * dt.timedelta(hours=2, minutes=43)
        latest = {refresh.date().isoformat(): refresh for tick, refresh in ticks if tick <= now}
        expected = [
            (key, f"orders:{key}:{latest[key].astimezone(UTC).isoformat()}") for key in sorted(latest, reverse=True)[:4]
        ]
        dues = newest_due(dataset, now, 4)
        assert [(due.partition_key, due.run_key) for due in dues] == expected
        with dg.partition_loading_context(effective_dt=now):
            assert all(dataset.partitions_def.has_partition_key(due.partition_key) for due in dues)
        assert all(dataset.window(due.partition_key, now).from_dt == due.since for due in dues)


@pytest.mark.parametrize("name", CALENDARS)
def test_every_partition_is_due_once_between_evaluations(name: str) -> None:
    dataset = FoundryDataset("orders", CALENDARS[name], "2027-06-01")
    end, step = at("2028-06-01"), dt.timedelta(hours=45, minutes=17)
    found, before = [], at("2027-07-01")
    while before < end:
        now = before + step
        found += [due.run_key for due in reversed(newest_due(dataset, now, 100, after=before))]
        before = now
    assert len(set(found)) == len(found)
    whole = [due.run_key for due in reversed(newest_due(dataset, before, 1000, after=at("2027-07-01")))]
    assert [key for key in found if key in set(whole)] == whole


def test_of_two_refreshes_on_a_date_the_latest_available_one_counts() -> None:
    dataset = FoundryDataset("orders", TWICE, "2026-01-01")
    assert newest_due(dataset, at("2026-03-01 08:00"), 1)[0].run_key == "orders:2026-03-01:2026-03-01T06:00:00+00:00"
    assert newest_due(dataset, at("2026-03-01 20:00"), 1)[0].run_key == "orders:2026-03-01:2026-03-01T18:00:00+00:00"


def test_nothing_is_due_before_the_start_and_beyond_the_horizon() -> None:
    dataset = FoundryDataset("orders", Schedule([Refresh("monthly", -2, "01:00:00")]), "2026-02-01")
    assert keys(dataset, "2026-02-27 02:59") == []
    assert keys(dataset, "2026-03-01") == ["2026-02-27"]
    assert keys(dataset, "2041-06-01", 2) == ["2039-12-30", "2039-11-29"]


def test_a_slice_is_due_when_the_refresh_that_completes_it_is_available() -> None:
    dataset = FoundryDataset("orders", FIRST_LAST_AND_FRIDAYS, "2026-01-01", time_column="updated_at")
    # Saturday the 28th is the last day of the month, Sunday the 1st the first of the next: 14:30 and 02:00 + 2 h.
    assert keys(dataset, "2026-02-28 16:29") == ["2026-02-20", "2026-02-13", "2026-02-06"]
    assert keys(dataset, "2026-02-28 16:30", 2) == ["2026-02-27", "2026-02-20"]
    assert keys(dataset, "2026-03-01 04:00", 9, after="2026-02-28 16:30") == ["2026-02-28"]
    for due in newest_due(dataset, at("2026-03-01 04:00"), 9):
        assert dataset.complete_at(due.partition_key) <= at("2026-03-01 04:00")
        assert due.since == dataset.window(due.partition_key).from_dt
    assert keys(dataset, "2026-01-02 23:59") == []


def test_a_second_refresh_on_a_date_completes_nothing() -> None:
    dataset = FoundryDataset("orders", TWICE, "2026-01-01", time_column="updated_at")
    assert keys(dataset, "2026-03-02 08:00", 1, after="2026-03-02 07:59") == ["2026-03-01"]
    assert keys(dataset, "2026-03-02 20:00", 1, after="2026-03-02 19:59") == []


def test_own_partitions_are_due_as_soon_as_they_are_listed_and_slices_when_they_are_over() -> None:
    for offset, slices, newest in ((0, False, "2026-03-28"), (1, False, "2026-03-29"), (1, True, "2026-03-28")):
        days = dg.DailyPartitionsDefinition("2026-03-27", timezone="Europe/Berlin", end_offset=offset)
        dataset = FoundryDataset("orders", partitions_def=days, time_column="updated_at" if slices else None)
        assert keys(dataset, "2026-03-28 23:00")[0] == newest
        assert keys(dataset, "2026-03-28 23:00", after="2026-03-28 22:59") == [newest]
        assert keys(dataset, "2026-03-29 21:59", after="2026-03-28 23:00") == []
        assert keys(dataset, "2026-03-29 22:00", 9)[-1] == "2026-03-27"


def test_hours_that_clocks_show_twice_are_two_partitions() -> None:
    hours = dg.HourlyPartitionsDefinition("2026-01-01-00:00", timezone="Europe/Berlin")
    dataset = FoundryDataset("orders", partitions_def=hours)
    got = keys(dataset, "2026-10-25 02:00", after="2026-10-24 23:00")
    assert got == ["2026-10-25-02:00+0100", "2026-10-25-02:00", "2026-10-25-01:00"]


def test_a_materialization_counts_if_its_window_ends_later() -> None:
    dataset = FoundryDataset("orders", TWICE, "2026-01-01")
    dues = newest_due(dataset, at("2026-03-02 21:00"), 3)
    with dg.DagsterInstance.ephemeral() as instance:

        def materialize(key: str, window_to: str | None) -> None:
            metadata = {} if window_to is None else {"foundry/window_to": dg.MetadataValue.timestamp(at(window_to))}
            instance.report_runless_asset_event(dg.AssetMaterialization(ORDERS, partition=key, metadata=metadata))

        assert is_there(instance, dataset, ORDERS, dues) == {
            "2026-03-02": False,
            "2026-03-01": False,
            "2026-02-28": False,
        }
        materialize("2026-03-02", "2026-03-02 20:00")  # pulled for the refresh in the morning, however late it ended
        materialize("2026-03-01", "2026-03-02 08:00")
        materialize("2026-02-28", None)  # reported by somebody else, now
        assert is_there(instance, dataset, ORDERS, dues) == {
            "2026-03-02": False,
            "2026-03-01": True,
            "2026-02-28": True,
        }


@pytest.mark.parametrize(("stored", "counts"), [("orders", True), ("returns", False)])
def test_a_materialization_of_another_dataset_under_the_same_key_does_not_count(stored: str, counts: bool) -> None:
    dataset, other = (FoundryDataset(name, TWICE, "2026-01-01") for name in ("orders", stored))
    (due,) = newest_due(dataset, at("2026-03-02 21:00"), 1)
    with dg.DagsterInstance.ephemeral() as instance:
        recorded = declaration_of(other).metadata()
        instance.report_runless_asset_event(dg.AssetMaterialization(ORDERS, partition="2026-03-02", metadata=recorded))
        assert is_there(instance, dataset, ORDERS, [due]) == {"2026-03-02": counts}


@pytest.mark.parametrize(
    ("window_to", "counts"),
    [
        ("2026-03-02 18:00", False),  # the refresh in the morning
        ("2026-03-02 20:00", False),  # the same, of when windows still ended at the next refresh and the buffer
        ("2026-03-03 06:00", True),  # the one in the evening
        ("2026-03-03 08:00", True),
    ],
)
def test_records_of_a_date_with_two_refreshes_count_for_their_own(window_to: str, counts: bool) -> None:
    dataset = FoundryDataset("orders", TWICE, "2026-01-01")
    (morning,), (evening,) = (newest_due(dataset, at(f"2026-03-02 {clock}"), 1) for clock in ("19:59", "20:00"))
    metadata = {"foundry/window_to": dg.MetadataValue.timestamp(at(window_to))}
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(ORDERS, partition="2026-03-02", metadata=metadata))
        assert is_there(instance, dataset, ORDERS, [morning]) == {"2026-03-02": True}
        assert is_there(instance, dataset, ORDERS, [evening]) == {"2026-03-02": counts}
