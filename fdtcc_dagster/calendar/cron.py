"""The day fields of a cron string, found for a set of dates and compared with it.

Cron says less than a calendar. It ORs the day of the month with the weekday, ANDs both with the month, and counts from
the end of a month only as far as its last day. So a cron is always rendered *from* dates, as the smallest superset that
its fields can say, and the caller compares the two.

Dagster, above all its older versions, does not step through all such fields correctly, and the webserver may run
another version. So only fields are rendered whose days all versions find.
"""

from __future__ import annotations

import calendar
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, reduce

from fdtcc_dagster.calendar.day_index import LAST, Years, all_kinds_of_years, union
from fdtcc_dagster.calendar.schedule import Refresh


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

    def ticks(self, years: Years) -> int:
        """The set of the days of some years on which a cron with these fields ticks."""
        days = years.all
        if self.days or self.weekdays:
            days = union([years.of_month[day] for day in self.days] + [years.of_week[day] for day in self.weekdays])
        return days & union(years.of_year[month] for month in self.months) if self.months else days

    def render(self, minute: str, hour: str) -> str:
        """The whole cron string."""
        return f"{minute} {hour} {_field(self.days)} {_field(self.months)} {_field(self.weekdays)}"

    def steady(self) -> DayCron:
        """These fields, plus the days that Dagster needs so that it skips none of them."""
        days = self.days - {31} if LAST in self.days else self.days
        if replace(self, days=days)._passes_by():
            days = days - {31} | {28} | ({LAST} if 31 in days else set())
        return replace(self, days=days)

    def _passes_by(self) -> bool:
        """Tell whether Dagster would skip some days of February or March.

        Dagster 1.12 looks for the next day of a month beyond the month's end: on 9 February, `30,L` leads it to the
        30th, and so to 2 March. When they look for the day before, all versions forget that February can have 29 days.
        """
        if self.months and 2 not in self.months:
            return False
        last, numbers = LAST in self.days, sorted(self.days - {LAST})
        of_march = numbers if not self.months or 3 in self.months else []
        for length in (28, 29):
            # On the last day itself, `L` is noticed.
            for today in range(1, length if last else length + 1):
                found = next((day for day in numbers if day >= today), 0)
                if found > length and (last or any(day < found - length for day in of_march)):
                    return True
        return bool(of_march) and 29 in numbers[1:] and not self.days & {1, 28, LAST}

    def __or__(self, other: DayCron) -> DayCron:
        """The smallest fields that say at least what both say."""
        unrestricted = not (self.days or self.weekdays) or not (other.days or other.weekdays)
        return DayCron(
            days=frozenset() if unrestricted else self.days | other.days,
            months=self.months | other.months if self.months and other.months else frozenset(),
            weekdays=frozenset() if unrestricted else self.weekdays | other.weekdays,
        )


def fit(days: int, years: Years) -> DayCron:
    """The day fields that tick on all of some days and on as few other days of some years as possible.

    Returns:
        The tightest of a few obvious candidates; compare its `ticks()` to know whether it is exact.
    """
    months, weekdays = _met(days, years.of_year), _met(days, years.of_week)
    of_month = _met(days, {day: found for day, found in years.of_month.items() if day != LAST})
    not_last = _met(days & ~years.of_month[LAST], years.of_month)
    candidates = (
        DayCron(months=months, weekdays=weekdays),
        DayCron(months=months, days=of_month),
        DayCron(months=months, days=not_last | {LAST}),
    )
    return _tightest([cron for cron in candidates if not days & ~cron.ticks(years)], years)


def superset(rules: Iterable[Refresh]) -> tuple[DayCron, bool]:
    """One set of day fields for all rules of a calendar; their times do not matter.

    Returns:
        Fields that tick on every day of a rule, and whether they tick on no other day, in any year.
    """
    return _superset(frozenset(replace(rule, time="00:00:00") for rule in rules))


@lru_cache(maxsize=1024)
def _superset(rules: frozenset[Refresh]) -> tuple[DayCron, bool]:
    years = all_kinds_of_years()
    days = union(years.named(rule) for rule in rules)
    each: Callable[[DayCron, DayCron], DayCron] = DayCron.__or__
    combined = reduce(each, (_fit_rule(rule) for rule in rules))
    cron = _tightest([combined, fit(days, years), DayCron()], years)
    return cron, cron.ticks(years) == days


@lru_cache(maxsize=1024)
def _fit_rule(rule: Refresh) -> DayCron:
    return fit(all_kinds_of_years().named(rule), all_kinds_of_years())


def without(rules: Iterable[Refresh], cron: DayCron) -> list[DayCron]:
    """Few crons that together exclude most days on which a cron ticks and no rule has a refresh.

    They tick on no day of a rule, in any year. Days that depend on the year, such as 28 February, are left out.
    """
    return _without(frozenset(replace(rule, time="00:00:00") for rule in rules), cron)


@lru_cache(maxsize=1024)
def _without(rules: frozenset[Refresh], cron: DayCron) -> list[DayCron]:
    years = all_kinds_of_years()
    days = union(years.named(rule) for rule in rules)
    excluded = cron.ticks(years) & ~days
    months_of: defaultdict[frozenset[int], set[int]] = defaultdict(set)
    for month, in_month in years.of_year.items():
        # A day that not each such month has would lead some versions of Dagster astray.
        last = calendar.monthrange(2001, month)[1]
        found = {day: years.of_month[day] & in_month for day in range(1, last + 1)}
        months_of[frozenset(day for day, each in found.items() if each & excluded and not each & days)].add(month)
    every = frozenset(years.of_year)
    return [
        DayCron(days=numbers, months=frozenset() if months == every else frozenset(months))
        for numbers, months in months_of.items()
        if numbers
    ]


def _tightest(crons: Iterable[DayCron], years: Years) -> DayCron:
    steady = [cron.steady() for cron in crons]
    return min(steady, key=lambda cron: (cron.ticks(years).bit_count(), len(cron.render("0", "0"))))


def _met(days: int, groups: Mapping[int, int]) -> frozenset[int]:
    """The groups that contain some of the days; empty if all groups do, as for a field that is `*`."""
    met = frozenset(number for number, group in groups.items() if days & group)
    return frozenset() if len(met) == len(groups) else met


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
