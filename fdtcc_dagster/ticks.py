"""When refreshes are requested: the minutes in which they become available, and crons that tick in them.

Cron cannot say every calendar, and a buffer moves a refresh across midnights, month ends and changes of the clocks. So
the crons are found for the calendar's own instants and compared with them for the years to come. They may tick too
often but never miss a refresh.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import dagster as dg

from fdtcc_dagster.client.errors import ScheduleError
from fdtcc_dagster.cron import DayCron, fit, years_between
from fdtcc_dagster.localtime import UTC, dagster_zone, instant_of, is_repeated
from fdtcc_dagster.schedule import Schedule

_YEARS = (2024, 2037)  # pytz knows no change of the clocks after that
_ONE_MINUTE, _ONE_DAY = dt.timedelta(minutes=1), dt.timedelta(days=1)


def key_delay(partitions_def: dg.TimeWindowPartitionsDefinition) -> dt.timedelta:
    """How long after the midnight of its date a key of `build_partitions_def` comes into being."""
    return _ONE_MINUTE if partitions_def.exclusions else dt.timedelta(0)


def tick_of(schedule: Schedule, refresh: dt.datetime, delay: dt.timedelta = dt.timedelta(0)) -> dt.datetime:
    """The tick at which a refresh is requested.

    Args:
        schedule: The calendar.
        refresh: A refresh of it, without the buffer.
        delay: How long after midnight the partition's key comes into being.

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

    Each rule becomes one cron where that is possible. Around changes of the clocks, the buffer leads to other times of
    day than usual, which get crons of their own.

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
    """The one cron that ticks whenever a refresh becomes available, and at no other time.

    Args:
        schedule: The calendar.

    Returns:
        The cron, or None if there is none.

    Raises:
        ScheduleError: As for `render_crons`.
    """
    crons, exact = _render(schedule, dt.timedelta(0))
    return crons[0] if exact and len(crons) == 1 else None


@lru_cache(maxsize=1024)
def waits(schedule: Schedule, *, once_a_date: bool = False) -> tuple[dt.timedelta, dt.timedelta]:
    """The shortest and the longest time between two consecutive refreshes, from 2024 to 2037.

    Args:
        schedule: The calendar.
        once_a_date: Whether only the first refresh of each date counts.

    Returns:
        Both times, elapsed and not by the clocks of the zone.
    """
    start, end = (dt.datetime(year, 1, 1, tzinfo=UTC) for year in (_YEARS[0], _YEARS[1] + 1))
    instants: dict[object, dt.datetime] = {}
    for refresh in schedule.refreshes(start, end):
        instants.setdefault(refresh.date() if once_a_date else refresh, refresh.astimezone(UTC))
    gaps = {later - earlier for earlier, later in pairwise(instants.values())}
    return min(gaps), max(gaps)


@lru_cache(maxsize=1024)
def _render(schedule: Schedule, delay: dt.timedelta) -> tuple[tuple[str, ...], bool]:
    """Crons that tick for all refreshes, and whether they tick at no other time."""
    years = years_between(*_YEARS)
    crons: dict[dt.time, set[DayCron]] = defaultdict(set)
    rendered: dict[str, None] = {}
    ticks: list[dt.datetime] = []
    for rule in schedule.refreshs:
        days_at: dict[dt.time, set[dt.date]] = defaultdict(set)
        for tick in _ticks(Schedule([rule], schedule.buffer, schedule.timezone), delay):
            ticks.append(tick)
            days_at[tick.time()].add(tick.date())
        for clock, days in sorted(days_at.items(), key=lambda group: (-len(group[1]), group[0])):
            cron = fit(frozenset(days), years)
            crons[clock].add(cron)
            rendered[cron.render(str(clock.minute), str(clock.hour))] = None
    for tick in ticks:
        if not any(cron.matches(tick.date()) for cron in crons[tick.time()]):
            raise ScheduleError(f"the crons {list(rendered)} of {schedule!r} do not tick at {tick.isoformat()}")
    wanted: dict[dt.time, set[dt.date]] = defaultdict(set)
    for tick in ticks:
        wanted[tick.time()].add(tick.date())
    exact = all(frozenset().union(*(cron.dates(years) for cron in crons[clock])) == wanted[clock] for clock in wanted)
    return tuple(rendered), exact


def _ticks(schedule: Schedule, delay: dt.timedelta) -> Iterator[dt.datetime]:
    first, end = (dt.datetime(year, 1, 1, tzinfo=UTC) - schedule.buffer for year in (_YEARS[0], _YEARS[1] + 1))
    for refresh in schedule.refreshes(first - 2 * _ONE_DAY, end + 2 * _ONE_DAY):
        tick = tick_of(schedule, refresh, delay)
        if _YEARS[0] <= tick.year <= _YEARS[1]:
            yield tick
