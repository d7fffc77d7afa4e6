"""A schedule as Dagster partitions: one partition for each date that has a refresh.

The key is the date of the refresh in the schedule's zone. If one cron string can express the dates, the definition is a
plain, unbounded `TimeWindowPartitionsDefinition`. Cron cannot say "the second-to-last day of the month"; such calendars
become the smallest cron that ticks on all their dates, minus the other dates, up to a horizon. In both cases the keys
are compared with the calendar before a definition is returned.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache

import dagster as dg

from fdtcc_dagster.calendar.cron import superset, without
from fdtcc_dagster.calendar.day_index import Years, union, years_between
from fdtcc_dagster.calendar.partition_windows import refresh_partitions
from fdtcc_dagster.calendar.schedule import Refresh, Schedule
from fdtcc_dagster.calendar.timezones import UTC, dagster_zone, date_of, instant_of, is_repeated, zone_of
from fdtcc_dagster.calendar.words import in_words
from fdtcc_dagster.errors import ScheduleError
from fdtcc_dagster.window import Window

KEY_FORMAT = "%Y-%m-%d"
_KEY = re.compile(r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}")
_HORIZON = dt.date(2040, 1, 1)
_MIDNIGHT = dt.time()
_A_MINUTE_LATER = "1 0 * * *"
_NO_BUFFER, _ONE_DAY, _LONGEST_GAP = dt.timedelta(0), dt.timedelta(days=1), dt.timedelta(days=400)


def build_partitions_def(
    schedule: Schedule, start: dt.date, horizon: dt.date | None = None, *, slices: bool = False
) -> dg.TimeWindowPartitionsDefinition:
    """One partition for each date, from `start` on, that has a refresh.

    A key exists from the midnight that begins its date in the schedule's zone, or from a minute later if dates had to
    be excluded. Only while `start` itself is in the future may Dagster show the first key early, from the tick before
    it.

    Args:
        schedule: The calendar.
        start: The first date that may be a key.
        horizon: The date before which all keys lie, for calendars that one cron string cannot express. If None, it is
            2040-01-01, or ten years after a later start. The keys of all other calendars have no end; they are compared
            with the calendar up to this date.
        slices: Whether the partitions are slices: then a key exists only when the next date with a refresh has come. If
            dates had to be excluded, it is the next tick of the cron without exclusions, which may be earlier.

    Returns:
        The definition, in the schedule's zone; each window reaches from its key's midnight to the next key's.

    Raises:
        ScheduleError: The horizon is not later than the start, or the keys would not be the calendar's dates: a
            refresh falls on a day that the zone's clocks skip, as Pacific/Apia did on 2011-12-30.
    """
    until = max(_HORIZON, start + 3660 * _ONE_DAY) if horizon is None else horizon
    if until <= start:
        raise ScheduleError(f"horizon={until} is not later than start={start}")
    return _build(frozenset(schedule.refreshs), schedule.timezone, start, until, slices)


def checked_start(start: object, schedule: Schedule) -> dt.date:
    """The first date that may be a key, of what a user gave: a date, a datetime at midnight, or `YYYY-MM-DD`.

    Raises:
        ScheduleError: It is none of these, or is outside of the years 1800 to 8999.
    """
    try:
        if isinstance(start, dt.datetime) and start.tzinfo is not None and 1800 <= start.year < 9000:
            start = start.astimezone(zone_of(schedule.timezone))
        if isinstance(start, str) and len(start) == len("YYYY-MM-DD"):
            start = dt.datetime.strptime(start, KEY_FORMAT).date()  # noqa: DTZ007  a date has no zone
        if isinstance(start, dt.datetime) and start.time() == dt.time():
            start = start.date()
    except ValueError:
        pass
    if isinstance(start, dt.date) and not isinstance(start, dt.datetime):
        if 1800 <= start.year < 9000:
            return start
        raise ScheduleError(f"start={start.isoformat()} is not allowed; give a year from 1800 to 8999")
    raise ScheduleError(
        f"start={start!r} is not allowed; with a schedule, give a date, a datetime at midnight or 'YYYY-MM-DD'"
    )


def refresh_window(schedule: Schedule, partition_key: str, now: dt.datetime | None = None) -> Window:
    """The window in which a partition's snapshot must have been pulled.

    It ends at the next refresh: from then on, until the buffer of that has passed, the source may hold either state.

    Args:
        schedule: The calendar.
        partition_key: The date of a refresh, `YYYY-MM-DD`, in the schedule's zone.
        now: An aware instant, the current one if None. It matters only if a date has several refreshes: then the latest
            available one counts, or the first if none is available yet.

    Returns:
        [refresh + buffer, next refresh), in the schedule's zone. If that would be empty, because the buffer is as long
        as the time between both or longer, it ends at next refresh + buffer.

    Raises:
        ScheduleError: The key is no date or has no refresh, or `now` is naive.
    """
    day = _parse(schedule, partition_key)
    zone = zone_of(schedule.timezone)
    midnights = (instant_of(zone, day, _MIDNIGHT), instant_of(zone, day + _ONE_DAY, _MIDNIGHT))
    refreshes = [instant for instant in schedule.refreshes(*midnights) if instant.date() == day]
    if not refreshes:
        raise ScheduleError(f"partition key {partition_key!r} is no refresh date; {_nearest_keys(schedule, day)}")
    latest = schedule.get_latest_refresh(now)
    refresh = max((instant for instant in refreshes if schedule.available(instant) <= latest), default=refreshes[0])
    from_dt, following = schedule.available(refresh), schedule.get_next_refresh(refresh, _NO_BUFFER)
    return Window(from_dt, following if from_dt < following else schedule.available(following))


def unavailable_refresh(schedule: Schedule, window: Window, now: dt.datetime) -> dt.datetime | None:
    """The refresh whose buffer has not passed yet, so that nothing may be pulled for a partition now.

    Args:
        schedule: The calendar.
        window: The partition's window, of `refresh_window`.
        now: An aware instant.

    Returns:
        The refresh, in the schedule's zone: the partition's own, or the one at which its window ended. None if a buffer
        is not the reason: the window contains `now`, is over for longer, or its refresh lies ahead.
    """
    if now < window.from_dt:
        available = window.from_dt
    elif not window.contains(now) and schedule.get_latest_refresh(now) == window.from_dt:
        available = schedule.get_next_refresh(now)
    else:
        return None
    refresh = schedule.first_from(available.astimezone(UTC) - schedule.buffer)
    return refresh if refresh <= now else None


def slice_window(schedule: Schedule, partition_key: str) -> Window:
    """The window of a slice: the times of the rows that belong to it.

    Args:
        schedule: The calendar.
        partition_key: The date of a refresh, `YYYY-MM-DD`, in the schedule's zone.

    Returns:
        [first refresh of the date, first refresh of the next date that has one), in the schedule's zone.

    Raises:
        ScheduleError: The key is no date or has no refresh.
    """
    day = _parse(schedule, partition_key)
    zone = zone_of(schedule.timezone)
    refreshes = schedule.refreshes(instant_of(zone, day, _MIDNIGHT), instant_of(zone, day + _LONGEST_GAP, _MIDNIGHT))
    following = [instant for instant in refreshes if instant.date() > day]
    if not refreshes or refreshes[0].date() != day:
        raise ScheduleError(f"partition key {partition_key!r} is no refresh date; {_nearest_keys(schedule, day)}")
    return Window(refreshes[0], following[0])


@lru_cache(maxsize=1024)
def _build(
    rules: frozenset[Refresh], timezone: str, start: dt.date, horizon: dt.date, slices: bool
) -> dg.TimeWindowPartitionsDefinition:
    schedule = Schedule(rules, timezone=timezone)
    cron, exact = superset(rules)
    end = schedule.refresh_dates(horizon, horizon + _LONGEST_GAP)[0]
    # From the year before, for the zone's clocks may skip the last day of it.
    years = years_between(start.year - 1, end.year)
    span = years.between(start, end)
    refreshed = union(years.refreshed(rule, zone_of(timezone)) for rule in rules) & span
    ticks = cron.ticks(years) & span
    _prove(schedule, years, ticks, refreshed, exact)
    begin = dt.datetime.combine(start, _MIDNIGHT)
    if exact:
        return dg.TimeWindowPartitionsDefinition(
            start=begin,
            fmt=KEY_FORMAT,
            timezone=timezone,
            cron_schedule=cron.render("0", "0"),
            end_offset=0 if slices else 1,
        )
    # Dagster counts a window only when it is over, and it is over at the next tick, excluded or not. So a second tick
    # a minute later makes a key appear on its date; with `end_offset=1` instead, a future key would exist already.
    excluded, irregular = ticks & ~refreshed, years.irregular(dagster_zone(timezone))
    # Older versions of Dagster fail at a cron among the exclusions where clocks show midnight twice.
    repeated = any(_tick(timezone, day, minute=1).fold for day in years.dates(irregular))
    crons = [] if repeated else without(rules, cron)
    by_cron = union(each.ticks(years) for each in crons)
    exclusions: list[str | dt.datetime] = [each.render("0", "0") for each in crons]
    if not slices:
        exclusions += [] if repeated else [_A_MINUTE_LATER]
        one_by_one = ticks if repeated else ticks & irregular
        exclusions += [_tick(timezone, day, minute=1) for day in years.dates(one_by_one)]
    exclusions += [dt.datetime.combine(day, _MIDNIGHT) for day in years.dates(excluded & ~irregular & ~by_cron)]
    # Where midnight is irregular, Dagster reads two crons in two ways, so these days are also excluded one by one.
    exclusions += [_tick(timezone, day) for day in years.dates(excluded & irregular)]
    return refresh_partitions(
        start=begin,
        end=dt.datetime.combine(end, _MIDNIGHT),
        fmt=KEY_FORMAT,
        timezone=timezone,
        cron_schedule=cron.render("0" if slices else "0,1", "0"),
        exclusions=exclusions,
    )


def _prove(schedule: Schedule, years: Years, ticks: int, refreshed: int, exact: bool) -> None:
    """Compare the days of a cron with those of the calendar."""
    zone = zone_of(schedule.timezone)
    near_changes = years.dates(ticks & years.near_changes(zone))
    skipped = years.of(day for day in near_changes if date_of(zone, day, _MIDNIGHT) != day)
    wrong = skipped | (refreshed ^ ticks if exact else refreshed & ~ticks)
    if wrong:
        raise ScheduleError(
            f"the partitions of the calendar {in_words(schedule)!r} would differ from its refresh dates on "
            f"{', '.join(map(str, years.dates(wrong)[:5]))}: the clocks of {schedule.timezone} skip that day or that "
            "time; start later, or choose another time or zone"
        )


def _tick(timezone: str, day: dt.date, minute: int = 0) -> dt.datetime:
    """A tick after midnight as Dagster reads it in a cron: of a time that occurs twice, the second."""
    clock = dt.time(minute=minute)
    wall = dt.datetime.combine(day, clock)
    return wall.replace(fold=1) if is_repeated(dagster_zone(timezone), day, clock) else wall


def _parse(schedule: Schedule, partition_key: str) -> dt.date:
    try:
        if _KEY.fullmatch(partition_key):
            return dt.date.fromisoformat(partition_key)
    except (TypeError, ValueError):
        pass
    today = dt.datetime.now(zone_of(schedule.timezone)).date()
    raise ScheduleError(
        f"partition key {partition_key!r} is no date of the form YYYY-MM-DD; {_nearest_keys(schedule, today)}"
    )


def _nearest_keys(schedule: Schedule, day: dt.date) -> str:
    before = schedule.refresh_dates(day - _LONGEST_GAP, day)[-1:]
    # `before` may be the day itself.
    after = schedule.refresh_dates(day + _ONE_DAY, day + _LONGEST_GAP)[:1]
    return f"the nearest keys are {' and '.join(repr(str(key)) for key in before + after)}"
