from __future__ import annotations

import datetime as dt
from itertools import combinations, takewhile

import pytest
from dagster._utils.schedules import cron_string_iterator, reverse_cron_string_iterator

from fdtcc_dagster.calendar.cron import DayCron, superset, without
from fdtcc_dagster.calendar.day_index import LAST, years_between
from fdtcc_dagster.calendar.schedule import Refresh

START, END = (dt.datetime(year, 1, 1, tzinfo=dt.timezone.utc) for year in (2023, 2025))
YEARS = years_between(2023, 2024)
DAYS = (1, 2, 15, 28, 29, 30, 31, LAST)
SETS = [frozenset(days) for count in (1, 2) for days in combinations(DAYS, count)]


def test_the_days_of_steady_fields_are_those_that_dagster_finds() -> None:
    for days in [*SETS, frozenset({2, 3, 8, 29}), frozenset({8, 30, LAST}), frozenset({1, 16, 31})]:
        fields = DayCron(days=days)
        cron = fields.steady()
        assert not fields.ticks(YEARS) & ~cron.ticks(YEARS)
        assert_dagster_finds_the_days_of(cron)


@pytest.mark.parametrize("day", [-31, -29, -8, -3, -2, 29, 30])
@pytest.mark.parametrize(("cycle", "month"), [("monthly", None), ("quarterly", 1), ("yearly", 2)])
def test_what_is_excluded_by_crons_is_no_refresh_and_found_by_dagster(cycle: str, month: int | None, day: int) -> None:
    rules = [Refresh(cycle, day, "01:00:00", month), Refresh("weekly", "Friday", "01:00:00")]
    for each in (rules[:1], rules):
        cron, exact = superset(each)
        crons = without(each, cron)
        assert not (exact and crons)
        assert not any(one.ticks(YEARS) & YEARS.named(rule) for one in crons for rule in each)
        for one in crons:
            assert one.steady() == one
            assert_dagster_finds_the_days_of(one)


def assert_dagster_finds_the_days_of(cron: DayCron) -> None:
    text = cron.render("0", "0")
    forward = takewhile(lambda tick: tick < END, cron_string_iterator(START.timestamp(), text, "UTC"))
    backward = takewhile(lambda tick: tick >= START, reverse_cron_string_iterator(END.timestamp() - 1, text, "UTC"))
    expected = YEARS.dates(cron.ticks(YEARS))
    assert [tick.date() for tick in forward] == [tick.date() for tick in backward][::-1] == expected, text


@pytest.mark.parametrize(
    ("fields", "steady"),
    [
        (DayCron(days=frozenset({1, LAST}), weekdays=frozenset({5})), "0 0 1,L * 5"),
        (DayCron(days=frozenset({30})), "0 0 30 * *"),
        (DayCron(days=frozenset({30, LAST})), "0 0 28,30,L * *"),
        (DayCron(days=frozenset({30, LAST}), months=frozenset({1, 4})), "0 0 30,L 1,4 *"),
        (DayCron(days=frozenset({31, LAST})), "0 0 L * *"),
        (DayCron(days=frozenset({1, 31})), "0 0 1,28,L * *"),
        (DayCron(days=frozenset({1, 31}), months=frozenset({1, 2})), "0 0 1,31 1,2 *"),
        (DayCron(days=frozenset({2, 29})), "0 0 2,28,29 * *"),
    ],
)
def test_days_are_added_where_dagster_would_pass_by_others(fields: DayCron, steady: str) -> None:
    assert fields.steady().render("0", "0") == steady
