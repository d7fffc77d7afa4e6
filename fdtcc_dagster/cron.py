"""The day fields of a cron string, found for a set of dates and checked against it.

Cron says less than a calendar: it ORs the day of the month with the weekday, ANDs both with the month, and counts from
the end of a month only as far as its last day. So a cron is always rendered *from* dates, as the smallest superset that
its fields can say, and whoever uses it compares the two.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, reduce

from fdtcc_dagster.schedule import Refresh

LAST = 32
"""Stands for cron's `L`, the last day of the month, among the days of a month."""

_ONE_DAY = dt.timedelta(days=1)
_FULL_MONTH, _FULL_YEAR, _FULL_WEEK = frozenset(range(1, 32)), frozenset(range(1, 13)), frozenset(range(7))


@dataclass(frozen=True)
class DayCron:
    """The last three fields of a cron string; an empty set is a `*`.

    Attributes:
        days: Days of the month, 1 to 31 and `LAST`.
        months: Months, 1 to 12.
        weekdays: Weekdays, 0 (Sunday) to 6.
    """

    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()

    def matches(self, day: dt.date) -> bool:
        """Tell whether a cron with these fields ticks on a day."""
        if self.months and day.month not in self.months:
            return False
        if not self.days and not self.weekdays:
            return True
        return day.day in self.days or _weekday(day) in self.weekdays or (LAST in self.days and _is_last_of_month(day))

    def dates(self, years: Years) -> frozenset[dt.date]:
        """All days of some years on which a cron with these fields ticks."""
        index = years.index
        days = years.all
        if self.days or self.weekdays:
            found = [index["day", day] for day in self.days] + [index["weekday", day] for day in self.weekdays]
            days = frozenset().union(*found)
        if self.months:
            days = days & frozenset().union(*(index["month", month] for month in self.months))
        return days

    def render(self, minute: str, hour: str) -> str:
        """The whole cron string."""
        return f"{minute} {hour} {_field(self.days)} {_field(self.months)} {_field(self.weekdays)}"

    def __or__(self, other: DayCron) -> DayCron:
        """The smallest fields that say at least what both say."""
        unrestricted = not (self.days or self.weekdays) or not (other.days or other.weekdays)
        return DayCron(
            days=frozenset() if unrestricted else self.days | other.days,
            months=self.months | other.months if self.months and other.months else frozenset(),
            weekdays=frozenset() if unrestricted else self.weekdays | other.weekdays,
        )


class Years:
    """The days of some years, found by their month, day of the month and weekday.

    Attributes:
        years: The years.
        all: All their days.
        index: Days by `("month", 1…12)`, `("day", 1…31 or LAST)` and `("weekday", 0…6)`.
    """

    def __init__(self, years: Iterable[int]) -> None:
        self.years = tuple(years)
        index: defaultdict[Hashable, set[dt.date]] = defaultdict(set)
        for year in self.years:
            for ordinal in range(dt.date(year, 1, 1).toordinal(), dt.date(year + 1, 1, 1).toordinal()):
                day = dt.date.fromordinal(ordinal)
                index["month", day.month].add(day)
                index["day", day.day].add(day)
                index["weekday", _weekday(day)].add(day)
                if _is_last_of_month(day):
                    index["day", LAST].add(day)
        self.index = {key: frozenset(days) for key, days in index.items()}
        self.all = frozenset().union(*self.index.values())

    def of(self, rule: Refresh) -> frozenset[dt.date]:
        """The days of these years on which a rule asks for a refresh."""
        return frozenset(day for year in self.years for day in rule.days(dt.date(year, 1, 1), dt.date(year, 12, 31)))


@lru_cache(maxsize=64)
def years_between(first: int, last: int) -> Years:
    """The years from `first` to `last` inclusive."""
    return Years(range(first, last + 1))


def all_kinds_of_years() -> Years:
    """28 years with all 14 kinds: leap or not, times the weekday of New Year.

    Rules and crons look at nothing but the place of a day in its year, so what agrees here agrees in every year.
    """
    return years_between(2000, 2027)


def fit(dates: frozenset[dt.date], years: Years) -> DayCron:
    """The day fields that tick on all of some dates and on as few others of the years as possible.

    Args:
        dates: At least one date, in those years.
        years: The years that count.

    Returns:
        The tightest of a few obvious candidates; compare `dates()` of it to know whether it is exact.
    """
    months = _unless(_FULL_YEAR, {day.month for day in dates})
    not_last = {day.day for day in dates if not _is_last_of_month(day)}
    candidates = (
        DayCron(months=months, weekdays=_unless(_FULL_WEEK, {_weekday(day) for day in dates})),
        DayCron(months=months, days=_unless(_FULL_MONTH, {day.day for day in dates})),
        DayCron(months=months, days=frozenset(not_last | {LAST})),
    )
    return _tightest([cron for cron in candidates if dates <= cron.dates(years)], years)


def superset(rules: Iterable[Refresh]) -> tuple[DayCron, bool]:
    """One set of day fields for all rules of a calendar.

    Args:
        rules: The rules; their times do not matter.

    Returns:
        The fields, which tick on every day that a rule names, and whether they tick on no other day, in any year.
    """
    return _superset(frozenset(replace(rule, time="00:00:00") for rule in rules))


@lru_cache(maxsize=1024)
def _superset(rules: frozenset[Refresh]) -> tuple[DayCron, bool]:
    dates = frozenset().union(*(_days_of(rule) for rule in rules))
    each: Callable[[DayCron, DayCron], DayCron] = DayCron.__or__
    combined = reduce(each, (_fit_rule(rule) for rule in rules))
    cron = _tightest([combined, fit(dates, all_kinds_of_years()), DayCron()], all_kinds_of_years())
    return cron, cron.dates(all_kinds_of_years()) == dates


@lru_cache(maxsize=1024)
def _days_of(rule: Refresh) -> frozenset[dt.date]:
    return all_kinds_of_years().of(rule)


@lru_cache(maxsize=1024)
def _fit_rule(rule: Refresh) -> DayCron:
    return fit(_days_of(rule), all_kinds_of_years())


def _tightest(crons: Iterable[DayCron], years: Years) -> DayCron:
    return min(crons, key=lambda cron: (len(cron.dates(years)), len(cron.render("0", "0"))))


def _unless(full: frozenset[int], values: set[int]) -> frozenset[int]:
    return frozenset() if values == full else frozenset(values)


def _weekday(day: dt.date) -> int:
    return day.isoweekday() % 7


def _is_last_of_month(day: dt.date) -> bool:
    return (day + _ONE_DAY).month != day.month


def _field(values: frozenset[int]) -> str:
    """A field of a cron string: `*`, or numbers and ranges of three and more, then `L`."""
    if not values:
        return "*"
    runs: list[list[int]] = []
    for value in sorted(values - {LAST}):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs]
    return ",".join([*parts, "L"] if LAST in values else parts)
