from __future__ import annotations

import datetime as dt
from itertools import pairwise, takewhile
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.partitions.snap import PartitionsSnap
from dagster._serdes import deserialize_value, serialize_value
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.calendar.partitions import build_partitions_def, refresh_window, unavailable_refresh
from fdtcc_dagster.calendar.schedule import WEEKDAYS, Refresh, Schedule
from fdtcc_dagster.errors import ScheduleError
from fdtcc_dagster_tests.calendar.test_schedule import FIRST_LAST_AND_FRIDAYS, MONDAYS_AND_FIRST, asks_for, at, rules
from fdtcc_dagster_tests.fuzz import examples, some_of

DAY, NOON = dt.timedelta(days=1), "12:00:00"
START = dt.date(2017, 1, 1)
# Midnights that do not exist: São Paulo on 2017-10-15, Cairo on 2024-04-26, Beirut every March. Twice in Havana.
ZONES = [
    "UTC", "Europe/Berlin", "Europe/London", "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "Pacific/Auckland",
    "America/Havana", "Atlantic/Azores",
]  # fmt: skip

SAID_BY_CRON = {
    "0 0 1 * 1": MONDAYS_AND_FIRST,
    "0 0 1,L * 5": FIRST_LAST_AND_FRIDAYS,
    "0 0 * * *": Schedule([Refresh("weekly", day, "01:00:00") for day in WEEKDAYS]),
    "0 0 L * *": Schedule([Refresh("monthly", 31, "01:00:00")]),
    "0 0 1 * *": Schedule([Refresh("monthly", -31, "01:00:00")]),
    "0 0 L 3,6,9,12 *": Schedule([Refresh("quarterly", 31, "01:00:00", 3)]),
    "0 0 30 1 *": Schedule([Refresh("yearly", -2, "01:00:00", 1)]),
}
NOT_SAID_BY_CRON = {
    "0,1 0 27-30 * *": Schedule([Refresh("monthly", -2, "01:00:00")]),
    "0,1 0 28,29 * *": Schedule([Refresh("monthly", 29, "01:00:00")]),
    "0,1 0 28,30,L * *": Schedule([Refresh("monthly", 30, "01:00:00")]),
    "0,1 0 1 * 0": Schedule([Refresh("quarterly", 1, "01:00:00"), Refresh("weekly", "Sunday", "01:00:00")]),
    "0,1 0 27-30 * 5": Schedule([Refresh("monthly", -2, "01:00:00"), Refresh("weekly", "Friday", "01:00:00")]),
}


def keys(definition: dg.PartitionsDefinition, now: dt.datetime) -> list[str]:
    return list(definition.get_partition_keys(current_time=now))


def over_the_wire(value: Any) -> Any:
    return deserialize_value(serialize_value(value))


def on_the_host(definition: dg.TimeWindowPartitionsDefinition) -> dg.PartitionsDefinition:
    """The definition as the webserver and the daemon rebuild it."""
    snapshot = over_the_wire(PartitionsSnap.from_def(definition))
    rebuilt: dg.PartitionsDefinition = snapshot.get_partitions_definition()
    return rebuilt


@pytest.mark.parametrize("cron", SAID_BY_CRON)
def test_what_cron_can_say_is_a_plain_definition_without_end(cron: str) -> None:
    definition = build_partitions_def(SAID_BY_CRON[cron], START)
    assert type(definition) is dg.TimeWindowPartitionsDefinition
    assert (definition.cron_schedule, definition.end_offset, definition.end) == (cron, 1, None)
    assert not definition.exclusions


@pytest.mark.parametrize("cron", NOT_SAID_BY_CRON)
def test_what_cron_cannot_say_is_its_smallest_superset_without_the_other_dates(cron: str) -> None:
    definition = build_partitions_def(NOT_SAID_BY_CRON[cron], START)
    assert (definition.cron_schedule, definition.end_offset) == (cron, 0)
    assert definition.end is not None
    assert definition.end.date() >= dt.date(2040, 1, 1)


@pytest.mark.parametrize("day", [-31, -29, -3, -2, 28, 29, 30])
@pytest.mark.parametrize("other", [1, 2, 3, 15, -1])
def test_no_version_of_dagster_passes_by_the_end_of_february(day: int, other: int) -> None:
    schedule = Schedule([Refresh("monthly", day, "01:00:00"), Refresh("monthly", other, "01:00:00")])
    definition = build_partitions_def(schedule, START, horizon=dt.date(2022, 1, 1))
    expected = [str(date) for date in schedule.refresh_dates(START, dt.date(2021, 6, 15))]
    assert keys(definition, at("2021-06-15 12:00")) == expected


@given(
    st.lists(rules, min_size=1, max_size=3),
    st.sampled_from(ZONES),
    st.datetimes(dt.datetime(2017, 1, 2), dt.datetime(2031, 1, 1), timezones=st.just(dt.timezone.utc)),
)
@settings(max_examples=examples(40), deadline=None)
def test_keys_are_the_refresh_dates_so_far_here_and_on_the_host(
    refreshs: list[Refresh], timezone: str, now: dt.datetime
) -> None:
    refreshs = [Refresh(rule.cycle, rule.day, "12:00:00", rule.month) for rule in refreshs]
    schedule = Schedule(refreshs, timezone=timezone)
    definition = build_partitions_def(schedule, START, horizon=dt.date(2031, 6, 1))
    # A key may appear a minute after the midnight of its date; at this time, none of the zones is in that minute.
    now = now.replace(hour=12, minute=30)
    today = now.astimezone(definition.start.tzinfo).date()
    walked = [START + n * DAY for n in range((today - START).days + 1)]
    expected = [str(day) for day in walked if any(asks_for(rule, day) for rule in refreshs)]
    if expected:
        assert keys(definition, now) == keys(on_the_host(definition), now) == expected
    else:
        # Dagster lists the first key of a definition that has not begun a tick early.
        assert len(keys(definition, now)) <= 1


@given(
    st.lists(rules, min_size=1, max_size=3),
    st.sampled_from(ZONES),
    st.sampled_from([1925, 1968, 1990, 2010, 2036, 2060]),
    st.integers(0, 10_000),
)
@settings(max_examples=examples(8), deadline=None)
def test_windows_are_the_same_forwards_and_backwards_long_ago_and_far_ahead(
    refreshs: list[Refresh], timezone: str, year: int, number: int
) -> None:
    schedule = Schedule([Refresh(rule.cycle, rule.day, NOON, rule.month) for rule in refreshs], timezone=timezone)
    start, end = dt.date(year, 2, 27), dt.date(year + 5, 3, 2)
    definition = build_partitions_def(schedule, start, horizon=end)
    host: Any = on_the_host(definition)
    now = at(f"{end} 12:30")
    listed = [str(day) for day in schedule.refresh_dates(start, end - DAY)]
    assert [key for key in keys(host, now) if key < str(end)] == listed
    with dg.partition_loading_context(effective_dt=now):
        # Further ahead, since a window is counted backwards when it is over.
        backwards = host._reverse_iterate_time_windows((now + 800 * DAY).timestamp())
        found = takewhile(str(start).__le__, (window.start.strftime("%Y-%m-%d") for window in backwards))
        assert [key for key in found if key < str(end)] == listed[::-1]
        for key, following in list(pairwise(listed))[number % 40 :: 40]:
            this, then = map(definition.time_window_for_partition_key, (key, following))
            assert definition.get_next_partition_window(this.end) == then
            assert definition.get_prev_partition_window(then.start) == this


@pytest.mark.parametrize(
    "schedule",
    [FIRST_LAST_AND_FRIDAYS, Schedule([Refresh("daily", None, "01:00:00")]), *list(NOT_SAID_BY_CRON.values())[4:]],
)
@pytest.mark.parametrize(
    "timezone", some_of(["Africa/Cairo", "Asia/Beirut", "America/Havana"], lambda zone: zone == "Africa/Cairo")
)
def test_a_key_appears_on_its_date_and_never_before(schedule: Schedule, timezone: str) -> None:
    schedule = Schedule(schedule.refreshs, schedule.buffer, timezone)
    definition = build_partitions_def(schedule, START)
    zone = definition.start.tzinfo
    spring, autumn = (dt.date(2024, 3, 28), dt.date(2024, 5, 1)), (dt.date(2024, 10, 25), dt.date(2024, 11, 12))
    for day in schedule.refresh_dates(*spring) + schedule.refresh_dates(*autumn):
        # By way of UTC, since in Beirut and Cairo some of these midnights do not exist.
        midnight = dt.datetime.combine(day, dt.time(), zone).astimezone(dt.timezone.utc)
        assert keys(definition, midnight - dt.timedelta(seconds=1))[-1] < str(day)
        assert keys(definition, midnight + dt.timedelta(minutes=1))[-1] == str(day)
        with dg.partition_loading_context(effective_dt=midnight - dt.timedelta(seconds=1)):
            assert not definition.has_partition_key(str(day))
        with dg.partition_loading_context(effective_dt=midnight + dt.timedelta(minutes=1)):
            assert definition.has_partition_key(str(day))
            assert not definition.has_partition_key(str(day + 400 * DAY))


@pytest.mark.parametrize("schedule", [MONDAYS_AND_FIRST, *NOT_SAID_BY_CRON.values()])
@pytest.mark.parametrize("timezone", ["UTC", "America/Sao_Paulo"])
def test_windows_are_contiguous_and_reach_from_date_to_date(schedule: Schedule, timezone: str) -> None:
    definition = build_partitions_def(Schedule(schedule.refreshs, timezone=timezone), START)
    listed = keys(definition, at("2019-01-01 12:00"))
    windows = [definition.time_window_for_partition_key(key) for key in listed]
    assert [window.start.strftime("%Y-%m-%d") for window in windows] == listed
    assert all(window.end.timestamp() == following.start.timestamp() for window, following in pairwise(windows))
    assert not definition.has_partition_key("2018-06-13")
    assert not definition.has_partition_key("rubbish")


def test_the_last_window_before_the_horizon_ends_at_the_next_refresh() -> None:
    schedule = Schedule([Refresh("monthly", -2, "01:00:00")])
    definition = build_partitions_def(schedule, START, horizon=dt.date(2017, 4, 1))
    assert keys(definition, at("2030-01-01")) == ["2017-01-30", "2017-02-27", "2017-03-30"]
    assert keys(on_the_host(definition), at("2030-01-01")) == keys(definition, at("2030-01-01"))
    assert definition.time_window_for_partition_key("2017-03-30").end.date() == dt.date(2017, 4, 29)


def test_a_daily_asset_downstream_maps_onto_the_snapshot_that_covers_its_day() -> None:
    downstream = dg.DailyPartitionsDefinition(start_date="2017-02-01")
    with dg.partition_loading_context(effective_dt=at("2018-01-01 12:00")):
        mapped = dg.TimeWindowPartitionMapping().get_upstream_mapped_partitions_result_for_partitions(
            downstream_partitions_subset=downstream.empty_subset().with_partition_keys(["2017-02-15"]),
            downstream_partitions_def=downstream,
            upstream_partitions_def=build_partitions_def(MONDAYS_AND_FIRST, START),
        )
        assert list(mapped.partitions_subset.get_partition_keys()) == ["2017-02-13"]


def test_a_subset_with_exclusions_survives_the_way_to_the_host() -> None:
    definition = build_partitions_def(NOT_SAID_BY_CRON["0,1 0 27-30 * *"], START)
    with dg.partition_loading_context(effective_dt=at("2018-01-01 12:00")):
        subset = definition.empty_subset().with_partition_keys(["2017-02-27", "2017-04-29"])
        sent = over_the_wire(subset.to_serializable_subset())
        assert sorted(sent.get_partition_keys()) == ["2017-02-27", "2017-04-29"]


def test_what_would_differ_from_the_calendar_is_refused() -> None:
    daily = Schedule([Refresh("daily", None, "05:00:00")], timezone="Pacific/Apia")
    with pytest.raises(ScheduleError, match="2011-12-30: the clocks of Pacific/Apia skip"):
        build_partitions_def(daily, dt.date(2011, 1, 1))
    assert keys(build_partitions_def(daily, dt.date(2012, 1, 1)), at("2012-01-02 12:00"))[0] == "2012-01-01"
    with pytest.raises(ScheduleError, match="horizon=2016-12-31 is not later"):
        build_partitions_def(daily, START, horizon=dt.date(2016, 12, 31))


def test_only_dates_are_excluded_one_by_one() -> None:
    schedule = Schedule([Refresh("quarterly", 1, "01:00:00"), Refresh("weekly", "Sunday", "01:00:00")])
    definition, again = (build_partitions_def(schedule, dt.date(2020, 1, 1), dt.date(2030, 1, 1)) for _ in range(2))
    firsts = [dt.date(year, month, 1) for year in range(2020, 2030) for month in (2, 3, 5, 6, 8, 9, 11, 12)]
    excluded = [day for day in firsts if day.isoweekday() != 7]
    assert definition.exclusions is not None
    minutes = [each for each in definition.exclusions if isinstance(each, str)]
    dates = [
        dt.datetime.fromtimestamp(each.timestamp, definition.start.tzinfo).date()
        for each in definition.exclusions
        if not isinstance(each, str)
    ]
    assert (minutes, dates) == (["1 0 * * *"], excluded)
    assert (definition, hash(definition)) == (again, hash(again))
    refreshed = schedule.refresh_dates(dt.date(2020, 1, 1), dt.date(2029, 12, 31))
    assert (
        keys(definition, at("2035-01-01"))
        == keys(on_the_host(definition), at("2035-01-01"))
        == list(map(str, refreshed))
    )


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize(
    ("rules", "crons", "dates"),
    [
        # What depends on the year is in February: five leap days, and 15 other last days.
        ([Refresh("monthly", -2, NOON)], ["0 0 27-29 1,3,5,7,8,10,12 *", "0 0 27,28,30 4,6,9,11 *"], 25),
        ([Refresh("monthly", 29, NOON)], ["0 0 28 1,3-12 *"], 5),
        # A cron cannot say "the 1st that is no Sunday".
        ([Refresh("quarterly", 1, NOON), Refresh("weekly", "Sunday", NOON)], [], 137),
    ],
)
def test_few_exclusions_say_what_all_years_have_in_common(
    rules: list[Refresh], crons: list[str], dates: int, timezone: str
) -> None:
    exclusions = build_partitions_def(Schedule(rules, timezone=timezone), dt.date(2020, 1, 1)).exclusions or ()
    assert [each for each in exclusions if isinstance(each, str)] == [*crons, "1 0 * * *"]
    assert len([each for each in exclusions if not isinstance(each, str)]) == dates


@pytest.mark.parametrize(
    ("key", "from_dt", "to_dt"),
    [
        ("2024-02-23", "2024-02-24 01:15", "2024-02-29 14:30"),
        ("2024-02-29", "2024-02-29 16:30", "2024-03-01 02:00"),
    ],
)
def test_a_window_reaches_from_its_availability_to_the_next_refresh(key: str, from_dt: str, to_dt: str) -> None:
    window = refresh_window(FIRST_LAST_AND_FRIDAYS, key)
    assert (window.from_dt, window.to_dt) == (at(from_dt), at(to_dt))


@pytest.mark.parametrize(
    ("now", "from_dt", "to_dt"),
    [
        ("2024-02-01", "2024-03-01 04:00", "2024-03-01 23:15"),
        ("2024-03-01 04:00", "2024-03-01 04:00", "2024-03-01 23:15"),
        ("2024-03-02 01:14", "2024-03-01 04:00", "2024-03-01 23:15"),
        ("2024-03-02 01:15", "2024-03-02 01:15", "2024-03-08 23:15"),
        ("2030-01-01", "2024-03-02 01:15", "2024-03-08 23:15"),
    ],
)
def test_of_two_refreshes_on_one_date_the_latest_available_counts(now: str, from_dt: str, to_dt: str) -> None:
    window = refresh_window(FIRST_LAST_AND_FRIDAYS, "2024-03-01", at(now))
    assert (window.from_dt, window.to_dt) == (at(from_dt), at(to_dt))


@pytest.mark.parametrize(
    ("hours", "from_dt", "to_dt"),
    [
        (0, "2024-03-04 06:00", "2024-03-05 06:00"),
        (23, "2024-03-05 05:00", "2024-03-05 06:00"),
        (24, "2024-03-05 06:00", "2024-03-06 06:00"),
        (25, "2024-03-05 07:00", "2024-03-06 07:00"),
        (49, "2024-03-06 07:00", "2024-03-07 07:00"),
    ],
)
def test_a_window_that_would_be_empty_reaches_to_the_next_availability(hours: int, from_dt: str, to_dt: str) -> None:
    schedule = Schedule([Refresh("daily", None, "06:00:00")], dt.timedelta(hours=hours))
    window = refresh_window(schedule, "2024-03-04")
    assert (window.from_dt, window.to_dt) == (at(from_dt), at(to_dt))


@pytest.mark.parametrize(
    ("hours", "key", "from_dt", "to_dt"),
    [
        (0, "2024-03-31", "2024-03-31 01:30", "2024-04-01 00:30"),
        (2, "2024-03-30", "2024-03-30 03:30", "2024-03-31 01:30"),
        (2, "2024-03-31", "2024-03-31 03:30", "2024-04-01 00:30"),
        # A day of 23 hours, from 02:30, which is 03:30 as clocks go forward: just as long as the buffer.
        (23, "2024-03-31", "2024-04-01 00:30", "2024-04-01 23:30"),
        (23, "2024-04-01", "2024-04-01 23:30", "2024-04-02 00:30"),
        (2, "2024-10-26", "2024-10-26 02:30", "2024-10-27 00:30"),
        (2, "2024-10-27", "2024-10-27 02:30", "2024-10-28 01:30"),
        (24, "2024-10-27", "2024-10-28 00:30", "2024-10-28 01:30"),
    ],
)
def test_a_window_over_a_change_of_the_clocks_is_exact(hours: int, key: str, from_dt: str, to_dt: str) -> None:
    schedule = Schedule([Refresh("daily", None, "02:30:00")], dt.timedelta(hours=hours), "Europe/Berlin")
    window = refresh_window(schedule, key)
    assert (window.from_dt, window.to_dt) == (at(from_dt), at(to_dt))


@pytest.mark.parametrize(
    ("key", "now", "refresh"),
    [
        # Between the refresh at the end of a window and its buffer, and not an instant earlier or later.
        ("2024-02-29", "2024-03-01 01:59", None),
        ("2024-02-29", "2024-03-01 02:00", "2024-03-01 02:00"),
        ("2024-02-29", "2024-03-01 03:59", "2024-03-01 02:00"),
        ("2024-02-29", "2024-03-01 04:00", None),
        # Before a window, from its refresh on.
        ("2024-03-01", "2024-03-01 01:59", None),
        ("2024-03-01", "2024-03-01 02:00", "2024-03-01 02:00"),
        # The second refresh of a date.
        ("2024-03-01", "2024-03-01 23:15", "2024-03-01 23:15"),
        ("2024-03-01", "2024-03-02 01:15", None),
        # If the window ended earlier, the buffer is not the reason.
        ("2024-02-23", "2024-03-01 03:00", None),
    ],
)
def test_between_a_refresh_and_its_buffer_nothing_may_be_pulled(key: str, now: str, refresh: str | None) -> None:
    window = refresh_window(FIRST_LAST_AND_FRIDAYS, key, at(now))
    found = unavailable_refresh(FIRST_LAST_AND_FRIDAYS, window, at(now))
    assert found == (None if refresh is None else at(refresh))
    if found is not None:
        keys = [str(day) for day in FIRST_LAST_AND_FRIDAYS.refresh_dates(dt.date(2024, 2, 1), dt.date(2024, 3, 8))]
        windows = [refresh_window(FIRST_LAST_AND_FRIDAYS, each, at(now)) for each in keys]
        assert not any(each.contains(at(now)) for each in windows)


@pytest.mark.parametrize(
    "key", ["2024-03-03", "20240304", "2024-3-4", "2024-02-30", "0001-01-01", "", None, "2024-03-04 "]
)
def test_a_key_that_is_no_refresh_date_is_refused_with_its_neighbours(key: Any) -> None:
    with pytest.raises(ScheduleError, match="the nearest keys are") as caught:
        refresh_window(MONDAYS_AND_FIRST, key)
    if key == "2024-03-03":
        assert "'2024-03-01' and '2024-03-04'" in str(caught.value)
