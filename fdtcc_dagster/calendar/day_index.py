"""Sets of days as integers, with one bit for each day.

Whenever a code location is loaded, hundreds of calendars are compared with crons day by day, over decades. On integers
each union, intersection and difference takes about a microsecond.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, lru_cache

from fdtcc_dagster.calendar.schedule import Refresh
from fdtcc_dagster.calendar.timezones import date_of, is_shown_once, offsets_throughout

LAST = 32
"""Stands for cron's `L`, the last day of the month, among the days of a month."""

_ONE_DAY = dt.timedelta(days=1)


class Years:
    """The days from the beginning of one year to the end of another; bit 0 of a set is the first of them.

    Attributes:
        first: The first day.
        last: The last day.
        all: The set of all days.
        of_month: Day of the month, 1 to 31 and `LAST` → the days.
        of_week: Weekday, 0 (Sunday) to 6 → the days.
        of_year: Month, 1 to 12 → the days.
    """

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = dt.date(first, 1, 1), dt.date(last, 12, 31)
        self._origin = self.first.toordinal()
        days = self.dates((1 << self.last.toordinal() - self._origin + 1) - 1)
        self.all = self.of(days)
        self.of_month = self._by(days, lambda day: day.day)
        self.of_month[LAST] = self.of(day for day in days if (day + _ONE_DAY).day == 1)
        self.of_week = self._by(days, lambda day: day.isoweekday() % 7)
        self.of_year = self._by(days, lambda day: day.month)

    def of(self, days: Iterable[dt.date]) -> int:
        """The set of some days; those of other years are left out."""
        length = self.last.toordinal() - self._origin + 1
        flags = bytearray(b"0") * length
        for day in days:
            number = day.toordinal() - self._origin
            if 0 <= number < length:
                flags[-1 - number] = ord("1")
        return int(flags, 2)

    def dates(self, days: int) -> list[dt.date]:
        """The days of a set, in order."""
        return [dt.date.fromordinal(self._origin + number) for number in self.numbers(days)]

    def numbers(self, days: int) -> list[int]:
        """The days of a set as the numbers of their bits, in order."""
        flags, number, found = f"{days:b}"[::-1], -1, []
        while (number := flags.find("1", number + 1)) >= 0:
            found.append(number)
        return found

    def between(self, first: dt.date, end: dt.date) -> int:
        """The days from `first` to `end`, exclusive."""
        before, until = (1 << max(day.toordinal() - self._origin, 0) for day in (first, end))
        return (until - 1) & ~(before - 1) & self.all

    def named(self, rule: Refresh) -> int:
        """The days on which a rule has a refresh."""
        return _named(self, replace(rule, time="00:00:00"))

    def offsets(self, zone: dt.tzinfo) -> dict[dt.timedelta, int]:
        """Offset from UTC → the days through which the zone's clocks keep it; no set has those near a change."""
        return _offsets(self, zone)

    def near_changes(self, zone: dt.tzinfo) -> int:
        """The days around changes of the zone's clocks."""
        return self.all & ~union(self.offsets(zone).values())

    def irregular(self, zone: dt.tzinfo) -> int:
        """The days around those whose midnight, or the minute after it, the zone's clocks skip or show twice."""
        return _irregular(self, zone)

    def refreshed(self, rule: Refresh, zone: dt.tzinfo) -> int:
        """The local dates of a rule's refreshes: its days, unless the zone's clocks skip that time."""
        named, near_changes = self.named(rule), self.near_changes(zone)
        unsure = self.dates(named & near_changes)
        return named & ~near_changes | self.of(date_of(zone, day, rule.clock()) for day in unsure)

    def _by(self, days: Iterable[dt.date], number: Callable[[dt.date], int]) -> dict[int, int]:
        groups: defaultdict[int, list[dt.date]] = defaultdict(list)
        for day in days:
            groups[number(day)].append(day)
        return {key: self.of(group) for key, group in groups.items()}


def union(sets: Iterable[int]) -> int:
    """The union of sets of days."""
    found = 0
    for days in sets:
        found |= days
    return found


@lru_cache(maxsize=64)
def years_between(first: int, last: int) -> Years:
    """The years from `first` to `last` inclusive."""
    return Years(first, last)


@cache
def all_kinds_of_years() -> Years:
    """28 years with all 14 kinds: leap or not, times the weekday of New Year.

    Rules and crons only use the place of a day in its year, so what agrees here agrees in every year.
    """
    return Years(2000, 2027)


@lru_cache(maxsize=2048)
def _named(years: Years, rule: Refresh) -> int:
    return years.of(rule.days(years.first, years.last))


@lru_cache(maxsize=256)
def _offsets(years: Years, zone: dt.tzinfo) -> dict[dt.timedelta, int]:
    days: defaultdict[dt.timedelta, list[dt.date]] = defaultdict(list)
    for number, offset in enumerate(offsets_throughout(zone, years.first, years.last)):
        if offset is not None:
            days[offset].append(years.first + number * _ONE_DAY)
    return {offset: years.of(group) for offset, group in days.items()}


@lru_cache(maxsize=256)
def _irregular(years: Years, zone: dt.tzinfo) -> int:
    near_changes = years.near_changes(zone)
    days = years.of(
        day
        for day in years.dates(near_changes)
        if not all(is_shown_once(zone, day, clock) for clock in (dt.time(), dt.time(minute=1)))
    )
    return years.all & near_changes & (days | days << 1 | days >> 1)
