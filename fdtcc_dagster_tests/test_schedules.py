from __future__ import annotations

import datetime as dt
import re
from collections import Counter

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fdtcc_dagster.calendar.schedule import Refresh, Schedule
from fdtcc_dagster.calendar.ticks import render_crons, tick_of
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.due import newest_due
from fdtcc_dagster.errors import ScheduleError
from fdtcc_dagster.schedules import build_foundry_schedules
from fdtcc_dagster.translator import FoundryDatasetTranslator
from fdtcc_dagster_tests.calendar.test_schedule import FIRST_LAST_AND_FRIDAYS, MONDAYS_AND_FIRST, at, rules

UTC = dt.timezone.utc
NONE = dt.timedelta(0)

CALENDARS = {
    "first of the month plus Mondays": MONDAYS_AND_FIRST,
    "first, last and Fridays": FIRST_LAST_AND_FRIDAYS,
    "second-to-last day": Schedule([Refresh("monthly", -2, "23:30:00")]),
    "midnight without a buffer": Schedule([Refresh("monthly", 29, "00:00:00")], NONE),
    "over the end of the year": Schedule([Refresh("yearly", 31, "23:59:59", 12)], dt.timedelta(days=3)),
    "quarters and Sundays": Schedule(
        [Refresh("quarterly", 31, "12:00:01", 2), Refresh("weekly", "Sunday", "01:00:00")]
    ),
    "Berlin at night": Schedule(
        [Refresh("weekly", "Sunday", "01:00:00"), Refresh("monthly", -1, "02:30:00")], timezone="Europe/Berlin"
    ),
    "New York at one": Schedule(
        [Refresh("daily", None, "23:59:59"), Refresh("weekly", "Sunday", "00:30:00")],
        dt.timedelta(hours=1),
        "America/New_York",
    ),
    "half an hour on Lord Howe": Schedule(
        [Refresh("daily", None, "01:45:00")], dt.timedelta(minutes=7), "Australia/Lord_Howe"
    ),
    "midnights that do not exist": Schedule([Refresh("weekly", "Sunday", "00:00:00")], NONE, "Asia/Beirut"),
}


def ticks(schedule: dg.ScheduleDefinition, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
    """The ticks of a schedule as the daemon computes them."""
    found: list[dt.datetime] = []
    for tick in schedule_execution_time_iterator(
        start.timestamp(), schedule.cron_schedule, schedule.execution_timezone
    ):
        if tick.timestamp() >= end.timestamp():
            return found
        found.append(tick)
    return found


def repository(dataset: FoundryDataset, schedule: dg.ScheduleDefinition) -> dg.RepositoryDefinition:
    @dg.asset(key=dataset.name, partitions_def=dataset.partitions_def)
    def stored() -> None: ...

    return dg.Definitions(assets=[stored], schedules=[schedule]).get_repository_def()


def evaluate(
    schedule: dg.ScheduleDefinition, repository_def: dg.RepositoryDefinition, tick: dt.datetime
) -> tuple[list[tuple[str | None, str | None]], str | None]:
    with dg.build_schedule_context(scheduled_execution_time=tick, repository_def=repository_def) as context:
        result = schedule.evaluate_tick(context)
    return [(request.partition_key, request.run_key) for request in result.run_requests or ()], result.skip_message


@pytest.mark.parametrize("name", CALENDARS)
def test_over_a_year_each_refresh_is_requested_exactly_once(name: str) -> None:
    calendar = CALENDARS[name]
    start, end = at("2027-10-01"), at("2029-01-01")  # one leap year, and two autumns
    dataset = FoundryDataset("orders", calendar, "2020-01-01")
    (schedule,) = build_foundry_schedules([dataset])
    repository_def = repository(dataset, schedule)
    requested: Counter[tuple[str | None, str | None]] = Counter()
    for tick in ticks(schedule, start, end):
        requests, skipped = evaluate(schedule, repository_def, tick)
        requested.update(requests)
        assert requests or (skipped and "the next one does at 20" in skipped)
    expected = {
        (refresh.date().isoformat(), f"orders:{refresh.date()}:{refresh.astimezone(UTC).isoformat()}")
        for refresh in calendar.refreshes(start - calendar.buffer - dt.timedelta(days=1), end)
        if start <= tick_of(calendar, refresh, dt.timedelta(minutes=bool(dataset.partitions_def.exclusions))) < end
    }
    assert set(requested) == expected
    # Where a midnight does not exist, two crons can mean the same instant; the run key makes it one run.
    assert set(requested.values()) == {1} or calendar.timezone == "Asia/Beirut"


@given(
    st.lists(rules, min_size=1, max_size=3),
    st.timedeltas(NONE, dt.timedelta(days=40)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "America/Vancouver"]),
    st.integers(2025, 2034),
)
@example(
    [Refresh("daily", None, "00:00:00"), Refresh("daily", None, "22:58:34")],
    dt.timedelta(days=35, seconds=7244, microseconds=713),
    "America/New_York",
    2025,
)
@settings(max_examples=25, deadline=None)
def test_dagsters_ticks_meet_the_minute_of_every_availability(
    refreshs: list[Refresh], buffer: dt.timedelta, timezone: str, year: int
) -> None:
    calendar = Schedule(refreshs, buffer, timezone)
    start, end = dt.datetime(year, 1, 1, tzinfo=UTC), dt.datetime(year + 1, 1, 1, tzinfo=UTC)
    got = set()
    for tick in schedule_execution_time_iterator(start.timestamp(), list(render_crons(calendar)), timezone):
        if tick.timestamp() >= end.timestamp():
            break
        got.add(tick.timestamp())
    for refresh in calendar.refreshes(start - buffer, end - buffer - dt.timedelta(hours=3)):
        available = calendar.available(refresh)
        tick = tick_of(calendar, refresh)
        assert tick.timestamp() in got
        if 0 <= (wait := tick.timestamp() - available.timestamp()) < 60:
            continue
        # The clocks repeated an hour just then: the minute after the availability, and two hours at most.
        local = available.astimezone(tick.tzinfo)
        assert wait < 7200 + 60
        assert local.utcoffset() != tick.utcoffset() or local.fold == 1


@pytest.mark.parametrize(
    ("schedule", "crons"),
    [
        (MONDAYS_AND_FIRST, ("0 4 1 * *", "0 4 * * 1")),
        (FIRST_LAST_AND_FRIDAYS, ("0 4 1 * *", "30 16 L * *", "15 1 * * 6")),
        (Schedule([Refresh("monthly", -1, "23:00:00")]), ("0 1 1 * *",)),
        (Schedule([Refresh("monthly", -2, "23:00:00")]), ("0 1 L * *",)),
        (Schedule([Refresh("monthly", -2, "21:00:00")]), ("0 23 27-30 * *",)),
        (Schedule([Refresh("yearly", 31, "23:59:01", 12)], NONE), ("0 0 1 1 *",)),
        (Schedule([Refresh("daily", None, "23:59:01")]), ("0 2 * * *",)),
    ],
)
def test_crons_are_the_rules_moved_by_the_buffer(schedule: Schedule, crons: tuple[str, ...]) -> None:
    assert render_crons(schedule) == crons


def test_a_tick_is_judged_by_its_scheduled_time_and_says_what_comes_next() -> None:
    dataset = FoundryDataset("orders", FIRST_LAST_AND_FRIDAYS, "2020-01-01")
    (schedule,) = build_foundry_schedules([dataset])
    repository_def = repository(dataset, schedule)
    missed = at("2021-01-31 16:30")
    assert evaluate(schedule, repository_def, missed)[0] == [
        ("2021-01-31", "orders:2021-01-31:2021-01-31T14:30:00+00:00")
    ]
    requests, skipped = evaluate(schedule, repository_def, missed + dt.timedelta(minutes=1))
    assert not requests
    assert skipped is not None
    assert "the next one does at 2021-02-01T04:00:00+00:00" in skipped


def test_a_slice_is_requested_when_its_window_is_over_and_may_be_pulled() -> None:
    dataset = FoundryDataset("orders", MONDAYS_AND_FIRST, "2020-01-01", time_column="updated_at")
    (schedule,) = build_foundry_schedules([dataset])
    repository_def = repository(dataset, schedule)
    requested = {
        tick: evaluate(schedule, repository_def, tick)[0]
        for tick in ticks(schedule, at("2026-02-23 05:00"), at("2026-03-10"))
    }
    # The first of March is a Sunday.
    assert requested == {
        at("2026-03-01 04:00"): [("2026-02-23", "orders:2026-02-23:2026-03-01T02:00:00+00:00")],
        at("2026-03-02 04:00"): [("2026-03-01", "orders:2026-03-01:2026-03-02T02:00:00+00:00")],
        at("2026-03-09 04:00"): [("2026-03-02", "orders:2026-03-02:2026-03-09T02:00:00+00:00")],
    }
    assert all(
        dataset.window(str(key)).to_dt + MONDAYS_AND_FIRST.buffer == tick
        for tick, requests in requested.items()
        for key, _ in requests
    )


def test_refreshes_before_the_start_and_beyond_the_horizon_are_not_requested() -> None:
    dataset = FoundryDataset("orders", Schedule([Refresh("monthly", -2, "01:00:00")]), "2026-02-01")
    (schedule,) = build_foundry_schedules([dataset])
    repository_def = repository(dataset, schedule)
    for tick in ("2026-01-30 03:00", "2040-01-30 03:00"):
        assert evaluate(schedule, repository_def, at(tick))[0] == []
    assert evaluate(schedule, repository_def, at("2026-02-27 03:00"))[0][0][0] == "2026-02-27"


@pytest.mark.parametrize(("end_offset", "key"), [(0, "2026-03-28"), (1, "2026-03-29")])
def test_own_partitions_are_requested_when_they_come_into_being(end_offset: int, key: str) -> None:
    daily = dg.DailyPartitionsDefinition(start_date="2026-01-01", timezone="Europe/Berlin", end_offset=end_offset)
    dataset = FoundryDataset("orders", partitions_def=daily)
    (schedule,) = build_foundry_schedules([dataset])
    repository_def = repository(dataset, schedule)
    assert (schedule.cron_schedule, schedule.execution_timezone) == (["0 0 * * *"], "Europe/Berlin")
    assert evaluate(schedule, repository_def, at("2026-03-28 23:00"))[0] == [(key, f"orders:{key}")]


def test_an_excluded_own_partition_is_skipped() -> None:
    weekdays = dg.TimeWindowPartitionsDefinition(
        start="2026-01-01", fmt="%Y-%m-%d", cron_schedule="0 0 * * *", end_offset=0, exclusions=["0 0 * * 0"]
    )
    dataset = FoundryDataset("orders", partitions_def=weekdays)
    (schedule,) = build_foundry_schedules([dataset])
    requests, skipped = evaluate(schedule, repository(dataset, schedule), at("2026-03-02"))  # ends Sunday, the 1st
    assert not requests
    assert skipped == "No partition of 'orders' came into being at 2026-03-02T00:00:00+00:00."


@pytest.mark.parametrize(
    ("time_column", "first"), [(None, "2026-03-09T04:00:00+00:00"), ("at", "2026-03-16T04:00:00+00:00")]
)
def test_before_the_start_no_partition_is_announced(time_column: str | None, first: str) -> None:
    dataset = FoundryDataset("orders", MONDAYS_AND_FIRST, "2026-03-03", time_column=time_column)
    (schedule,) = build_foundry_schedules([dataset])
    for tick in ("2026-02-23 04:00", "2026-03-02 04:00"):
        requests, skipped = evaluate(schedule, repository(dataset, schedule), at(tick))
        assert not requests
        assert skipped is not None
        assert skipped.endswith(f"the next one does at {first}.")
    requests, _ = evaluate(schedule, repository(dataset, schedule), dt.datetime.fromisoformat(first))
    assert [key for key, _ in requests] == ["2026-03-09"]


def test_names_are_made_of_asset_keys_and_must_differ() -> None:
    def declare(name: str, key: list[str]) -> FoundryDataset:
        return FoundryDataset(name, MONDAYS_AND_FIRST, "2020-01-01", asset_key=dg.AssetKey(key))

    (schedule,) = build_foundry_schedules([declare("Orders, v2", ["sales", "orders-v2"])])
    assert schedule.name == "sales__orders_v2_8d570583_schedule"
    one, two = build_foundry_schedules([declare("one", ["a-b"]), declare("two", ["a_b"])])
    assert re.fullmatch(r"a_b_[0-9a-f]{8}_schedule", one.name)
    assert two.name == "a_b_schedule"
    with pytest.raises(ScheduleError, match="there is a schedule 'a_b_schedule' already"):
        build_foundry_schedules([declare("one", ["a_b"]), declare("two", ["a_b"])])


def test_the_key_is_the_translators() -> None:
    class Prefixed(FoundryDatasetTranslator):
        def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
            return super().get_asset_spec(dataset).replace_attributes(key=dg.AssetKey(["raw", dataset.name]))

    (schedule,) = build_foundry_schedules(
        [FoundryDataset("orders", MONDAYS_AND_FIRST, "2020-01-01")], translator=Prefixed()
    )
    assert schedule.name == "raw__orders_schedule"


def test_datasets_with_equal_calendars_and_starts_can_share_a_schedule() -> None:
    datasets = [
        FoundryDataset("orders", MONDAYS_AND_FIRST, "2020-01-01"),
        FoundryDataset("closings", FIRST_LAST_AND_FRIDAYS, "2020-01-01"),
        FoundryDataset("staff", Schedule(MONDAYS_AND_FIRST.refreshs), "2020-01-01"),
        FoundryDataset("young", MONDAYS_AND_FIRST, "2026-03-05"),
        FoundryDataset("days", partitions_def=dg.DailyPartitionsDefinition("2026-01-01")),
    ]
    sliced = FoundryDataset("sliced", MONDAYS_AND_FIRST, "2020-01-01", time_column="at")
    assert len({schedule.name for schedule in build_foundry_schedules([*datasets[:2], sliced], shared=True)}) == 3
    shared, *others = build_foundry_schedules(datasets, shared=True)
    assert [schedule.name for schedule in others] == ["closings_schedule", "young_schedule", "days_schedule"]
    assert re.fullmatch(r"monthly_1_020000_weekly_monday_020000_[0-9a-f]{6}_schedule", shared.name)
    assert build_foundry_schedules([datasets[2], datasets[0]], shared=True)[0].name == shared.name

    @dg.multi_asset(specs=[dg.AssetSpec("orders", partitions_def=datasets[0].partitions_def)])
    def orders() -> None: ...

    @dg.multi_asset(specs=[dg.AssetSpec("staff", partitions_def=datasets[2].partitions_def)])
    def staff() -> None: ...

    repository_def = dg.Definitions(assets=[orders, staff], schedules=[shared]).get_repository_def()

    def requested(tick: str) -> list[tuple[list[dg.AssetKey] | None, str | None]]:
        with dg.build_schedule_context(scheduled_execution_time=at(tick), repository_def=repository_def) as context:
            requests = shared.evaluate_tick(context).run_requests or ()
        return [(list(request.asset_selection or ()), request.partition_key) for request in requests]

    assert requested("2026-03-09 04:00") == [
        ([dg.AssetKey("orders")], "2026-03-09"),
        ([dg.AssetKey("staff")], "2026-03-09"),
    ]


def test_what_was_materialized_or_requested_elsewhere_is_not_requested_again() -> None:
    dataset = FoundryDataset("orders", Schedule([Refresh("daily", None, "00:00:00")], NONE), "2020-01-01")
    (schedule,) = build_foundry_schedules([dataset])
    repository_def = repository(dataset, schedule)
    today = dt.datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with dg.instance_for_test() as instance:
        key = dg.AssetKey("orders")
        (due,) = newest_due(dataset, today, 1)
        instance.create_run_for_job(
            repository_def.get_implicit_global_asset_job_def(),
            status=dg.DagsterRunStatus.SUCCESS,
            tags={**due.request(key).tags, "dagster/run_key": due.run_key},
        )
        with dg.build_schedule_context(instance, today, repository_def=repository_def) as context:
            result = schedule.evaluate_tick(context)
    assert not result.run_requests
    assert result.skip_message is not None
    assert result.skip_message.startswith(f"Requested before: {due.run_key}; the next one does at ")


def test_catching_up_can_be_limited_to_nothing_but_not_to_less() -> None:
    dataset = FoundryDataset("orders", MONDAYS_AND_FIRST, "2020-01-01")
    assert build_foundry_schedules([dataset], max_catchup=0)
    with pytest.raises(ValueError, match="max_catchup=-1 is not allowed; give a whole number of at least 0"):
        build_foundry_schedules([dataset], max_catchup=-1)


def test_the_description_says_the_calendar_in_words() -> None:
    (schedule,) = build_foundry_schedules([FoundryDataset("orders", FIRST_LAST_AND_FRIDAYS, "2026-01-01")])
    assert schedule.description == (
        "Requests each partition of the Foundry dataset 'orders' as soon as its refresh may be pulled: "
        "first day of each month 02:00; last day of each month 14:30; every Friday 23:15 (UTC, data 2 h later)."
    )
