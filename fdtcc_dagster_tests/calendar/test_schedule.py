from __future__ import annotations

import datetime as dt
import pickle
import re
from calendar import monthrange
from typing import Any

import pytest
import pytz
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.calendar.schedule import WEEKDAYS, Refresh, Schedule
from fdtcc_dagster.errors import ScheduleError

UTC = dt.timezone.utc
DAY = dt.timedelta(days=1)

MONDAYS_AND_FIRST = Schedule(
    [
        {"cycle": "monthly", "day": 1, "time": "02:00:00"},
        {"cycle": "weekly", "day": "Monday", "time": "02:00:00"},
    ]
)
FIRST_LAST_AND_FRIDAYS = Schedule(
    refreshs=[
        {"cycle": "monthly", "day": 1, "time": "02:00:00"},
        {"cycle": "monthly", "day": -1, "time": "14:30:00"},
        {"cycle": "weekly", "day": "Friday", "time": "23:15:00"},
    ],
    buffer=dt.timedelta(hours=2),
)

month_days = st.integers(1, 31) | st.integers(-31, -1)
times = st.times().map(lambda clock: clock.strftime("%H:%M:%S"))
rules = st.one_of(
    st.builds(Refresh, st.just("daily"), st.none(), times),
    st.builds(Refresh, st.just("weekly"), st.sampled_from(WEEKDAYS), times),
    st.builds(Refresh, st.just("monthly"), month_days, times),
    st.builds(Refresh, st.just("quarterly"), month_days, times, st.integers(1, 3)),
    st.builds(Refresh, st.just("yearly"), month_days, times, st.integers(1, 12)),
)
buffers = st.timedeltas(dt.timedelta(0), dt.timedelta(days=40))
moments = st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2036, 1, 1), timezones=st.just(UTC))


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


def asks_for(rule: Refresh, day: dt.date) -> bool:
    """The oracle: whether a rule has a refresh on a day."""
    length = monthrange(day.year, day.month)[1]
    asked = rule.day if isinstance(rule.day, int) else 0
    in_month = day.day == (min(asked, length) if asked > 0 else max(length + 1 + asked, 1))
    in_quarter = (day.month - 1) % 3 + 1 == rule.month
    return {
        "daily": True,
        "weekly": day.strftime("%A") == rule.day,
        "monthly": in_month,
        "quarterly": in_month and in_quarter,
        "yearly": in_month and day.month == rule.month,
    }[rule.cycle]


def every_refresh(schedule: Schedule, first: dt.date, last: dt.date) -> list[dt.datetime]:
    days = [first + n * DAY for n in range((last - first).days + 1)]
    return sorted(
        {
            dt.datetime.combine(day, rule.clock(), UTC)
            for day in days
            for rule in schedule.refreshs
            if asks_for(rule, day)
        }
    )


@given(st.lists(rules, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_refreshes_are_those_of_walking_through_every_day(refreshs: list[Refresh]) -> None:
    schedule = Schedule(refreshs)
    expected = every_refresh(schedule, dt.date(2019, 1, 1), dt.date(2024, 12, 31))
    assert schedule.refreshes(at("2019-01-01"), at("2025-01-01")) == expected
    assert schedule.refresh_dates(dt.date(2019, 1, 1), dt.date(2024, 12, 31)) == sorted({r.date() for r in expected})


@given(st.lists(rules, min_size=1, max_size=3), buffers, moments)
@settings(max_examples=150, deadline=None)
def test_latest_and_next_enclose_the_moment(refreshs: list[Refresh], buffer: dt.timedelta, now: dt.datetime) -> None:
    schedule = Schedule(refreshs, buffer)
    around = every_refresh(schedule, (now - buffer).date() - 370 * DAY, (now - buffer).date() + 370 * DAY)
    available = [refresh + buffer for refresh in around]
    assert schedule.get_latest_refresh(now) == max(moment for moment in available if moment <= now)
    assert schedule.get_next_refresh(now) == min(moment for moment in available if moment > now)


@given(
    st.lists(rules, min_size=1, max_size=2),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut"]),
)
@settings(max_examples=40, deadline=None)
def test_local_times_are_shown_by_the_clocks_of_the_zone(refreshs: list[Refresh], timezone: str) -> None:
    schedule = Schedule(refreshs, timezone=timezone)
    got = schedule.refreshes(at("2015-01-01"), at("2018-01-01"))
    asked = {
        dt.datetime.combine(day, rule.clock())
        for rule in refreshs
        for day in (dt.date(2014, 12, 25) + n * DAY for n in range(1120))
        if asks_for(rule, day)
    }
    zone = pytz.timezone(timezone)
    for moment in got:
        wall = moment.replace(tzinfo=None)
        if wall in asked:
            # Of two passes the first: an hour before, the clocks showed another time.
            assert all((moment - gap).astimezone(zone).replace(tzinfo=None) != wall for gap in (DAY / 24, DAY / 48))
        else:
            assert any(
                wall - gap in asked and zone.normalize(zone.localize(wall - gap)).replace(tzinfo=None) != wall - gap
                for gap in (DAY / 24, DAY / 48)
            )
    assert got == sorted(set(got))


@pytest.mark.parametrize(
    ("now", "latest", "following"),
    [
        ("2024-01-01 03:59:59", "2023-12-25 04:00", "2024-01-01 04:00"),
        ("2024-01-01 04:00:00", "2024-01-01 04:00", "2024-01-08 04:00"),
        ("2024-02-01 04:00:00", "2024-02-01 04:00", "2024-02-05 04:00"),
    ],
)
def test_first_of_month_plus_mondays(now: str, latest: str, following: str) -> None:
    assert MONDAYS_AND_FIRST.get_latest_refresh(at(now)) == at(latest)
    assert MONDAYS_AND_FIRST.get_next_refresh(at(now)) == at(following)


def test_first_last_and_fridays_at_three_times() -> None:
    assert FIRST_LAST_AND_FRIDAYS.refreshes(at("2024-02-29"), at("2024-03-09")) == [
        at("2024-02-29 14:30"), at("2024-03-01 02:00"), at("2024-03-01 23:15"), at("2024-03-08 23:15"),
    ]  # fmt: skip
    assert FIRST_LAST_AND_FRIDAYS.get_next_refresh(at("2024-03-01 04:00")) == at("2024-03-02 01:15")
    # A refresh that is still pending is not the latest one.
    assert FIRST_LAST_AND_FRIDAYS.get_latest_refresh(at("2024-03-02 01:00")) == at("2024-03-01 04:00")


def test_a_short_month_does_not_change_the_rule() -> None:
    schedule = Schedule([Refresh("monthly", 31, "00:00:00")])
    for _ in range(2):
        got = schedule.refreshes(at("2023-01-01"), at("2023-06-01"))
        assert [refresh.day for refresh in got] == [31, 28, 31, 30, 31]
    assert schedule.refreshs[0].day == 31


def test_a_skipped_time_moves_forward_by_the_gap_and_of_a_repeated_one_the_first_counts() -> None:
    schedule = Schedule([Refresh("daily", None, "02:30:00")], timezone="europe/berlin")
    spring = schedule.refreshes(at("2024-03-31"), at("2024-04-01"))
    autumn = schedule.refreshes(at("2024-10-27"), at("2024-10-28"))
    assert [moment.isoformat() for moment in spring + autumn] == [
        "2024-03-31T03:30:00+02:00",
        "2024-10-27T02:30:00+02:00",
    ]


def test_the_buffer_is_elapsed_time_also_over_a_change_of_the_clocks() -> None:
    schedule = Schedule([Refresh("weekly", "sunday", "01:00:00")], dt.timedelta(hours=2), "Europe/Berlin")
    assert schedule.get_next_refresh(at("2024-03-30")).isoformat() == "2024-03-31T04:00:00+02:00"


def test_a_day_that_a_zone_skips_gives_its_refresh_to_the_next_day() -> None:
    schedule = Schedule([Refresh("monthly", 30, "05:00:00")], timezone="Pacific/Apia")
    assert schedule.refresh_dates(dt.date(2011, 12, 29), dt.date(2012, 1, 1)) == [dt.date(2011, 12, 31)]


def test_a_buffer_of_zero_is_not_an_unset_one() -> None:
    schedule = Schedule([Refresh("daily", None, "12:00:00")], buffer=dt.timedelta(0))
    assert schedule.get_latest_refresh(at("2024-01-01 12:00")) == at("2024-01-01 12:00")
    late = Schedule([Refresh("daily", None, "12:00:00")])
    assert late.get_latest_refresh(at("2024-01-01 12:00"), dt.timedelta(0)) == at("2024-01-01 12:00")
    assert late.get_next_refresh(at("2024-01-01 12:00"), buffer_overwrite=dt.timedelta(0)) == at("2024-01-02 12:00")


def test_a_rule_alone_has_no_buffer() -> None:
    rule = Refresh.init_by_object({"cycle": "weekly", "day": "mOnDaY", "time": "02:00:00"})
    assert rule.get_latest_refresh(at("2024-01-08 02:00")) == at("2024-01-08 02:00")
    assert rule.get_next_refresh(at("2024-01-08 02:00")) == at("2024-01-15 02:00")


def test_without_a_date_the_clock_is_read_at_the_call() -> None:
    schedule = Schedule([Refresh("daily", None, "00:00:00")])
    now = dt.datetime.now(UTC)
    assert schedule.get_latest_refresh() <= dt.datetime.now(UTC) < schedule.get_next_refresh() <= now + 2 * DAY
    assert schedule.refreshs[0].get_latest_refresh() <= dt.datetime.now(UTC)


def test_schedules_are_values() -> None:
    twin = Schedule([Refresh("monthly", 1, "02:00:00"), Refresh("weekly", "MONDAY", "02:00:00")])
    assert twin == MONDAYS_AND_FIRST
    assert hash(twin) == hash(MONDAYS_AND_FIRST)
    assert twin != FIRST_LAST_AND_FRIDAYS
    assert pickle.loads(pickle.dumps(twin)) == twin  # noqa: S301
    assert "day='Monday', time='02:00:00'" in repr(twin)
    assert "timezone='UTC'" in repr(twin)
    with pytest.raises(AttributeError):
        twin.buffer = DAY  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cycle": "secondly", "day": 1, "time": "02:00:00"}, "cycle='secondly' is unknown; allowed are 'daily'"),
        ({"cycle": "hourly", "time": "02:00:00"}, r"give the dataset a partitions_def .* dagster\.HourlyPartitions"),
        ({"cycle": "dayly", "time": "02:00:00"}, "cycle='dayly' is unknown; .*; did you mean 'daily'"),
        ({"cycle": "Daily", "time": "02:00:00"}, "did you mean 'daily'"),
        ({"cycle": None, "time": "02:00:00"}, "cycle=None is unknown"),
        ({"cycle": "monthly", "day": 0, "time": "02:00:00"}, "day=0 of a monthly refresh: allowed"),
        ({"cycle": "monthly", "day": 32, "time": "02:00:00"}, "day=32"),
        ({"cycle": "monthly", "day": -32, "time": "02:00:00"}, "day=-32"),
        ({"cycle": "monthly", "day": 400, "time": "02:00:00"}, "day=400"),
        ({"cycle": "monthly", "day": True, "time": "02:00:00"}, "day=True"),
        ({"cycle": "monthly", "day": 1.5, "time": "02:00:00"}, "day=1.5"),
        ({"cycle": "monthly", "day": "Monday", "time": "02:00:00"}, "day='Monday' of a monthly"),
        ({"cycle": "weekly", "day": 1, "time": "02:00:00"}, "day=1 of a weekly refresh: allowed are Monday"),
        *(
            ({"cycle": "weekly", "day": day, "time": "02:00:00"}, f"day='{day}' .*; did you mean '{meant}'")
            for day, meant in {"Mon": "Monday", "Mo": "Monday", "tues": "Tuesday", "Thu.": "Thursday"}.items()
        ),
        ({"cycle": "weekly", "day": "..", "time": "02:00:00"}, "Sunday$"),
        ({"cycle": "daily", "day": 1, "time": "02:00:00"}, "leave it out"),
        ({"cycle": "monthly", "day": 1, "time": "99:99:99"}, "time='99:99:99' is no time of day"),
        *(
            ({"cycle": "daily", "time": time}, f"'23:59:59'; did you mean '{meant}'")
            for time, meant in [("2:00", "02:00:00"), ("04:00", "04:00:00"), ("4:00:00", "04:00:00"), ("6", "06:00:00")]
        ),
        ({"cycle": "daily", "time": dt.time(4)}, "; did you mean '04:00:00'"),
        ({"cycle": "daily", "time": "24:00"}, "'23:59:59'$"),
        ({"cycle": "monthly", "day": 1, "time": 7200}, "YAML needs the quotes"),
        ({"cycle": "monthly", "day": 1, "time": "02:00:00\n"}, "is no time of day"),
        ({"cycle": "monthly", "day": 1, "time": "02:00:00", "month": 1}, "month=1 makes no sense"),
        ({"cycle": "quarterly", "day": 1, "time": "02:00:00", "month": 4}, "integers 1 to 3"),
        ({"cycle": "yearly", "day": 1, "time": "02:00:00"}, "month=None of a yearly refresh"),
        ({"cycle": "monthly", "time": "02:00:00"}, "lacks 'day'"),
        ({"cycle": "weekly"}, "lacks 'day' and 'time'"),
        ({}, "lacks 'cycle' and 'day' and 'time'"),
        (
            {"cycle": "monthly", "day": 1, "time": "02:00:00", "hour": 2},
            "has 'hour', which it cannot",
        ),
        (["monthly", 1, "02:00:00"], "is no refresh"),
        ("monthly", "is no refresh"),
        (None, "is no refresh"),
    ],
)
def test_a_refresh_that_makes_no_sense_is_refused(fields: Any, said: str) -> None:
    with pytest.raises(ScheduleError, match=said) as caught:
        Schedule([fields])
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"refreshs": []}, "refreshs is empty"),
        ({"refreshs": {"cycle": "daily", "time": "02:00:00"}}, "is no list"),
        ({"refreshs": "daily"}, "is no list"),
        ({"refreshs": None}, "is no list"),
        ({"buffer": -DAY}, "buffer=.*timedelta from zero to 366 days"),
        ({"buffer": 120}, r"buffer=120 .*, such as datetime\.timedelta\(hours=2\)"),
        ({"buffer": "2h"}, r"buffer='2h' .*, such as datetime\.timedelta\(hours=2\)"),
        ({"timezone": "Europe/Atlantis"}, "timezone='Europe/Atlantis' is unknown"),
        ({"timezone": "America/NewYork"}, "is unknown; did you mean 'America/New_York'"),
        *(
            ({"timezone": zone}, f"'{re.escape(zone)}' is unknown; give the region .*, such as 'Europe/Berlin'")
            for zone in ("CEST", "GMT+1", "UTC+1", "Etc/GMT+15", "Asia/Bangalore")
        ),
        ({"timezone": None}, "timezone=None"),
        ({"timezone": 1}, "timezone=1"),
        ({"timezone": "../UTC"}, "timezone='../UTC'"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ScheduleError, match=said):
        Schedule(**{"refreshs": [Refresh("daily", None, "02:00:00")], **arguments})


def test_naive_dates_and_negative_overwrites_are_refused() -> None:
    naive = dt.datetime(2024, 1, 1)
    for call in (MONDAYS_AND_FIRST.get_latest_refresh, MONDAYS_AND_FIRST.refreshs[0].get_next_refresh):
        with pytest.raises(ScheduleError, match="time zone"):
            call(naive)
    with pytest.raises(ScheduleError, match=r"start=.*time zone"):
        MONDAYS_AND_FIRST.refreshes(naive, at("2024-01-01"))
    with pytest.raises(ScheduleError, match="buffer_overwrite"):
        MONDAYS_AND_FIRST.get_next_refresh(at("2024-01-01"), -DAY)
