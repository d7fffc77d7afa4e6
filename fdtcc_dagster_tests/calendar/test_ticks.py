"""Ticks of schedules, and the waits between refreshes."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import pytest

from fdtcc_dagster.calendar.schedule import Refresh, Schedule
from fdtcc_dagster.calendar.ticks import exact_cron, key_delay, tick_of, waits
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster_tests.calendar.test_schedule import MONDAYS_AND_FIRST, at
from fdtcc_dagster_tests.test_due import TWICE
from fdtcc_dagster_tests.test_schedules import CALENDARS


@pytest.mark.parametrize("name", CALENDARS)
def test_what_is_requested_in_its_minute_is_requested_in_its_window(name: str) -> None:
    calendar = CALENDARS[name]
    dataset = FoundryDataset("orders", calendar, "2027-06-01")
    delay = key_delay(dataset.partitions_def)
    for refresh in calendar.refreshes(at("2027-07-01"), at("2028-07-01")):
        window = dataset.window(refresh.date().isoformat(), calendar.available(refresh))
        # Where clocks show an hour twice, its end is waited for.
        if window.to_dt - window.from_dt > dt.timedelta(hours=2):
            assert window.contains(tick_of(calendar, refresh, delay))


@pytest.mark.parametrize(
    ("schedule", "cron"),
    [
        (Schedule([Refresh("daily", None, "23:00:00")]), "0 1 * * *"),
        (Schedule([Refresh("monthly", -1, "23:00:00")]), "0 1 1 * *"),
        (Schedule([Refresh("weekly", "Monday", "02:00:00"), Refresh("weekly", "Friday", "02:00:00")]), None),
        (Schedule([Refresh("monthly", -2, "21:00:00")]), None),
        (Schedule([Refresh("daily", None, "01:00:00")], timezone="Europe/Berlin"), None),
        (MONDAYS_AND_FIRST, None),
    ],
)
def test_one_cron_is_exact_or_there_is_none(schedule: Schedule, cron: str | None) -> None:
    assert exact_cron(schedule) == cron


def test_waits_are_elapsed_times() -> None:
    hour = dt.timedelta(hours=1)
    assert waits(Schedule([Refresh("daily", None, "12:00:00")], timezone="Europe/Berlin")) == (23 * hour, 25 * hour)
    assert waits(MONDAYS_AND_FIRST) == (24 * hour, 168 * hour)
    assert waits(TWICE) == (12 * hour, 12 * hour)
    assert waits(TWICE, once_a_date=True) == (24 * hour, 24 * hour)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca"])
@pytest.mark.parametrize("once_a_date", [False, True])
@pytest.mark.parametrize(
    "rules",
    [
        [Refresh("daily", None, "02:30:00"), Refresh("daily", None, "01:59:30")],
        [Refresh("weekly", "Sunday", "02:30:00"), Refresh("monthly", -1, "02:00:00")],
        [Refresh("yearly", -2, "00:00:00", 12), Refresh("quarterly", 31, "23:59:59", 3)],
    ],
)
def test_waits_are_those_between_the_refreshes(zone: str, once_a_date: bool, rules: list[Refresh]) -> None:
    schedule = Schedule(rules, timezone=zone)
    start, end = (dt.datetime(year, 1, 1, tzinfo=dt.timezone.utc) for year in (2024, 2038))
    instants: dict[object, dt.datetime] = {}
    for refresh in schedule.refreshes(start, end):
        instants.setdefault(refresh.date() if once_a_date else refresh, refresh.astimezone(dt.timezone.utc))
    found = list(instants.values())
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert waits(schedule, once_a_date=once_a_date) == (min(gaps), max(gaps))
