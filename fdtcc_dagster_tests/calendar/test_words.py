"""Calendars in words."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import pytest

from fdtcc_dagster.calendar.schedule import Schedule
from fdtcc_dagster.calendar.words import duration, in_words

TIME = {"time": "04:00:00"}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"cycle": "daily", "time": "04:30:15"}, "every day 04:30:15"),
        ({"cycle": "weekly", "day": "monday", **TIME}, "every Monday 04:00"),
        ({"cycle": "monthly", "day": 1, **TIME}, "first day of each month 04:00"),
        ({"cycle": "monthly", "day": 11, **TIME}, "11th day of each month 04:00"),
        ({"cycle": "monthly", "day": 22, **TIME}, "22nd day of each month 04:00"),
        ({"cycle": "monthly", "day": -1, **TIME}, "last day of each month 04:00"),
        ({"cycle": "monthly", "day": -2, **TIME}, "second-to-last day of each month 04:00"),
        ({"cycle": "monthly", "day": -21, **TIME}, "21st-to-last day of each month 04:00"),
        ({"cycle": "quarterly", "day": 15, **TIME}, "15th day of the first month of each quarter 04:00"),
        ({"cycle": "yearly", "day": -1, "month": 2, **TIME}, "last day of February each year 04:00"),
    ],
)
def test_a_rule_is_said_with_its_day_and_time(rule: Mapping[str, object], words: str) -> None:
    assert in_words(Schedule([rule], buffer=dt.timedelta(0))) == f"{words} (UTC)"


def test_weekdays_of_one_time_are_said_together_with_zone_and_buffer() -> None:
    rules: list[Mapping[str, object]] = [
        {"cycle": "weekly", "day": "Friday", **TIME},
        {"cycle": "monthly", "day": 1, "time": "06:00:00"},
        {"cycle": "weekly", "day": "Monday", **TIME},
        {"cycle": "weekly", "day": "Sunday", "time": "05:00:00"},
    ]
    words = in_words(Schedule(rules, buffer=dt.timedelta(hours=2, minutes=30), timezone="Europe/Berlin"))
    assert words == (
        "every Monday and Friday 04:00; first day of each month 06:00; every Sunday 05:00 "
        "(Europe/Berlin, data 2 h 30 min later)"
    )


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (dt.timedelta(hours=2), "2 h"),
        (dt.timedelta(days=1, minutes=5), "1 d 5 min"),
        (dt.timedelta(seconds=61), "1 min 1 s"),
        (dt.timedelta(milliseconds=500), "0.5 s"),
    ],
)
def test_a_duration_has_units(length: dt.timedelta, words: str) -> None:
    assert duration(length) == words
