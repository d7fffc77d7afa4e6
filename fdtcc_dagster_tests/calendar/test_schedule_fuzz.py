"""Calendars in zones whose clocks change, against a walk through every day with the standard library's zones."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.calendar.schedule import Refresh, Schedule
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster_tests.calendar.test_schedule import DAY, UTC, asks_for, buffers, rules
from fdtcc_dagster_tests.fuzz import examples

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut",
    "Pacific/Apia", "Asia/Kathmandu", "America/St_Johns",
]  # fmt: skip
# Where clocks change, as that is where calendars go wrong; and anywhere.
changes = st.sampled_from(
    ["2011-12-30", "2018-11-04", "2024-03-10", "2024-03-31", "2024-04-07", "2024-10-27", "2024-11-03", "2024-02-29"]
).flatmap(lambda day: st.timedeltas(-3 * DAY, 3 * DAY).map(lambda gap: dt.datetime.fromisoformat(day) + gap))
moments = (changes | st.datetimes(dt.datetime(2005, 1, 1), dt.datetime(2025, 1, 1))).map(
    lambda m: m.replace(tzinfo=UTC)
)
early = st.sampled_from(["00:00:00", "00:30:00", "01:30:00", "02:00:00", "02:30:00", "03:00:00", "23:59:59"])
any_rules = st.lists(rules | st.builds(Refresh, st.just("daily"), st.none(), early), min_size=1, max_size=3)
schedules = st.builds(Schedule, any_rules, buffers, st.sampled_from(ZONES))


def around(schedule: Schedule, moment: dt.datetime, days: int) -> list[dt.datetime]:
    """The oracle: every refresh so many days around a moment."""
    dates = [moment.date() + n * DAY for n in range(-days, days + 1)]
    zone = ZoneInfo(schedule.timezone)
    return sorted(
        {
            dt.datetime.combine(date, rule.clock(), zone).astimezone(UTC)
            for date in dates
            for rule in schedule.refreshs
            if asks_for(rule, date)
        }
    )


@settings(max_examples=examples(300), deadline=None)
@given(schedules, moments)
def test_latest_and_next_enclose_the_moment_in_any_zone(schedule: Schedule, now: dt.datetime) -> None:
    available = [refresh + schedule.buffer for refresh in around(schedule, now - schedule.buffer, 370)]
    assert schedule.get_latest_refresh(now) == max(moment for moment in available if moment <= now)
    assert schedule.get_next_refresh(now) == min(moment for moment in available if moment > now)


@settings(max_examples=examples(150), deadline=None)
@given(schedules, moments, st.timedeltas(DAY, 90 * DAY))
def test_refreshes_and_their_dates_are_those_of_every_day(
    schedule: Schedule, start: dt.datetime, length: dt.timedelta
) -> None:
    end, zone = start + length, ZoneInfo(schedule.timezone)
    refreshes = around(schedule, start, 100)
    assert schedule.refreshes(start, end) == [refresh for refresh in refreshes if start <= refresh < end]
    first, last = start.date(), end.date()
    dates = {refresh.astimezone(zone).date() for refresh in refreshes}
    assert schedule.refresh_dates(first, last) == sorted(date for date in dates if first <= date <= last)


@settings(max_examples=examples(60), deadline=None)
@given(schedules, moments)
def test_a_window_reaches_to_the_next_refresh(schedule: Schedule, moment: dt.datetime) -> None:
    """For each key: from its date's last refresh and the buffer to the next refresh, in elapsed time."""
    dataset, zone = FoundryDataset("cars", schedule, dt.date(2000, 1, 1)), ZoneInfo(schedule.timezone)
    refreshes = around(schedule, moment, 400)
    for key in schedule.refresh_dates(moment.date(), moment.date() + 20 * DAY):
        of_key = [refresh for refresh in refreshes if refresh.astimezone(zone).date() == key]
        following = min(refresh for refresh in refreshes if refresh > of_key[-1])
        window = dataset.window(key.isoformat(), now=following + schedule.buffer)
        assert window.from_dt == of_key[-1] + schedule.buffer
        empty = window.from_dt >= following
        assert window.to_dt == (following + schedule.buffer if empty else following)


@settings(max_examples=examples(60), deadline=None)
@given(schedules, moments)
def test_a_record_of_a_window_counts_for_its_refresh_and_for_no_later_one(
    schedule: Schedule, moment: dt.datetime
) -> None:
    """Also where it was recorded while windows still ended at the next refresh and the buffer."""
    dataset, zone = FoundryDataset("cars", schedule, dt.date(2000, 1, 1)), ZoneInfo(schedule.timezone)
    refreshes = [instant.astimezone(zone) for instant in around(schedule, moment, 400)]
    start = next(number for number, instant in enumerate(refreshes) if instant.date() >= moment.date())
    for refresh, after in pairwise(refreshes[start : start + 20]):
        own, following = (instant.astimezone(UTC) + schedule.buffer for instant in (refresh, after))
        window = dataset.window(refresh.date().isoformat(), now=own)
        assert window.from_dt == own
        assert own < window.to_dt <= following, "it would count for the next refresh, too, or not for its own"
