"""When refreshes are requested: the minutes in which they become available, and crons that tick in them.

Cron cannot say every calendar, and a buffer moves a refresh across midnights, month ends and changes of the clocks. So
crons are found for the calendar's own instants, and compared with them for the years to come. They may tick too often
but never miss a refresh.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from functools import lru_cache
from itertools import pairwise

import dagster as dg

from fdtcc_dagster.calendar.cron import fit
from fdtcc_dagster.calendar.day_index import Years, union, years_between
from fdtcc_dagster.calendar.schedule import Refresh, Schedule
from fdtcc_dagster.calendar.timezones import UTC, dagster_zone, instant_of, is_repeated, zone_of
from fdtcc_dagster.calendar.words import in_words
from fdtcc_dagster.errors import ScheduleError

_YEARS = (2024, 2037)  # pytz knows no change of the clocks after that
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
_ONE_SECOND, _ONE_MINUTE, _ONE_DAY = dt.timedelta(seconds=1), dt.timedelta(minutes=1), dt.timedelta(days=1)
_SECONDS = 86_400  # of a day in UTC


def key_delay(partitions_def: dg.TimeWindowPartitionsDefinition) -> dt.timedelta:
    """How long after the midnight of its date a key of `build_partitions_def` begins to exist."""
    return _ONE_MINUTE if partitions_def.exclusions else dt.timedelta(0)


def tick_of(schedule: Schedule, refresh: dt.datetime, delay: dt.timedelta = dt.timedelta(0)) -> dt.datetime:
    """The tick at which a refresh is requested.

    Args:
        schedule: The calendar.
        refresh: A refresh of it, without the buffer.
        delay: How long after midnight the partition's key begins to exist.

    Returns:
        The first minute, in the schedule's zone, at which the refresh is available and its key exists. While clocks
        repeat an hour, it is the end of that hour: a cron cannot tell the first pass from the second.
    """
    zone = dagster_zone(schedule.timezone)
    key_exists = instant_of(zone, refresh.date(), dt.time()) + delay
    due = max(refresh.astimezone(UTC) + schedule.buffer, key_exists)
    tick = due.replace(second=0, microsecond=0)
    if tick < due:
        tick += _ONE_MINUTE
    while is_repeated(zone, (local := tick.astimezone(zone)).date(), local.time()):
        tick += _ONE_MINUTE
    return local


def render_crons(schedule: Schedule, delay: dt.timedelta = dt.timedelta(0)) -> tuple[str, ...]:
    """The crons that tick in the minute in which each refresh of a calendar becomes available.

    Each rule becomes one cron if that is possible. Around changes of the clocks, the buffer leads to other times of day
    than usual, which get their own crons.

    Args:
        schedule: The calendar.
        delay: The earliest time after midnight.

    Returns:
        The crons, to be read in the schedule's zone. Seconds are rounded up to the next minute.

    Raises:
        ScheduleError: A refresh from 2024 to 2037 would be missed.
    """
    return _render(schedule, delay)[0]


def exact_cron(schedule: Schedule) -> str | None:
    """The one cron that ticks whenever a refresh becomes available and at no other time, or None."""
    crons, exact = _render(schedule, dt.timedelta(0))
    return crons[0] if exact and len(crons) == 1 else None


@lru_cache(maxsize=1024)
def waits(schedule: Schedule, *, once_a_date: bool = False) -> tuple[dt.timedelta, dt.timedelta]:
    """The shortest and the longest elapsed time between two consecutive refreshes, from 2024 to 2037.

    Args:
        schedule: The calendar.
        once_a_date: Whether only the first refresh of each date counts.
    """
    # As seconds since the first day began, in UTC: thousands of them for each of hundreds of calendars.
    years, zone = years_between(_YEARS[0] - 1, _YEARS[1] + 1), zone_of(schedule.timezone)
    start, end = (
        _seconds_from(years.first, dt.datetime(year, 1, 1, tzinfo=UTC)) for year in (_YEARS[0], _YEARS[1] + 1)
    )
    day_of: dict[int, int] = {}
    for rule in schedule.refreshs:
        named = years.named(rule)
        clock = rule.clock()
        since_midnight = (dt.datetime.combine(_EPOCH, clock, UTC) - _EPOCH) // _ONE_SECOND
        for offset, days in years.offsets(zone).items():
            seconds = since_midnight - offset // _ONE_SECOND
            day_of.update((day * _SECONDS + seconds, day) for day in years.numbers(named & days))
        for date in years.dates(named & years.near_changes(zone)):
            instant = instant_of(zone, date, clock)
            day_of[_seconds_from(years.first, instant)] = (instant.astimezone(zone).date() - years.first).days
    instants = [instant for instant in sorted(day_of) if start <= instant < end]
    if once_a_date:
        instants = list({day_of[instant]: instant for instant in reversed(instants)}.values())[::-1]
    gaps = {later - earlier for earlier, later in pairwise(instants)}
    return min(gaps) * _ONE_SECOND, max(gaps) * _ONE_SECOND


def _seconds_from(first: dt.date, instant: dt.datetime) -> int:
    return (instant - dt.datetime.combine(first, dt.time(), UTC)) // _ONE_SECOND


@lru_cache(maxsize=1024)
def _render(schedule: Schedule, delay: dt.timedelta) -> tuple[tuple[str, ...], bool]:
    """Crons that tick for all refreshes, and whether they tick at no other time."""
    years = years_between(*_YEARS)
    wanted: defaultdict[dt.time, int] = defaultdict(int)
    ticking: defaultdict[dt.time, int] = defaultdict(int)
    rendered: dict[str, None] = {}
    for rule in schedule.refreshs:
        days_at = _ticks(rule, schedule, delay)
        for clock, days in sorted(days_at.items(), key=lambda group: (-group[1].bit_count(), group[0])):
            cron = fit(days, years)
            rendered[cron.render(str(clock.minute), str(clock.hour))] = None
            wanted[clock] |= days
            ticking[clock] |= cron.ticks(years)
    for clock, days in wanted.items():
        if missed := years.dates(days & ~ticking[clock]):
            raise ScheduleError(
                f"the crons {list(rendered)} of the calendar {in_words(schedule)!r} do not tick at {clock} on "
                f"{missed[0]}"
            )
    return tuple(rendered), wanted == ticking


def _ticks(rule: Refresh, schedule: Schedule, delay: dt.timedelta) -> dict[dt.time, int]:
    """Local time → the days on which a rule's refreshes are requested then."""
    years, window = years_between(_YEARS[0] - 2, _YEARS[1]), years_between(*_YEARS)  # no buffer is longer
    named = years.named(rule)
    # Where no clock changes between a refresh and its tick, the time of day and the number of days are always the same.
    wait = max(dt.datetime.combine(_EPOCH, rule.clock(), UTC) - _EPOCH + schedule.buffer, delay)
    shift, rest = divmod(-(-wait // _ONE_MINUTE) * _ONE_MINUTE, _ONE_DAY)
    usual = named & _undisturbed(schedule.timezone, years, shift)
    before = (dt.date(_YEARS[0], 1, 1) - dt.date(_YEARS[0] - 2, 1, 1)).days
    found = defaultdict(int, {(_EPOCH + rest).time(): (usual << shift >> before) & window.all})
    days_at: defaultdict[dt.time, list[dt.date]] = defaultdict(list)
    zone = zone_of(schedule.timezone)
    for day in years.dates(named & ~usual):
        tick = tick_of(schedule, instant_of(zone, day, rule.clock()).astimezone(zone), delay)
        days_at[tick.time()].append(tick.date())
    for clock, days in days_at.items():
        found[clock] |= window.of(days)
    return {clock: days for clock, days in found.items() if days}


@lru_cache(maxsize=1024)
def _undisturbed(timezone: str, years: Years, shift: int) -> int:
    """The days on which a zone's clocks have the same offset as some days later."""
    ours, dagsters = (years.offsets(zone) for zone in (zone_of(timezone), dagster_zone(timezone)))
    # pytz and the system may know changes of the clocks from databases of another age.
    same = [days & dagsters.get(offset, 0) for offset, days in ours.items()]
    return union(days & (days >> shift) for days in same)
