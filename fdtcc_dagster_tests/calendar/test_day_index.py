from __future__ import annotations

import datetime as dt

from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.calendar.day_index import LAST, years_between

DAY = dt.timedelta(days=1)


@given(st.sets(st.dates(dt.date(2023, 1, 1), dt.date(2025, 12, 31)), max_size=20))
@settings(deadline=None)
def test_a_set_has_the_days_that_it_was_made_of(days: set[dt.date]) -> None:
    years = years_between(2023, 2025)
    assert years.dates(years.of(days)) == sorted(days)


def test_days_are_found_by_what_they_are() -> None:
    years = years_between(2023, 2026)
    every = [dt.date(2023, 1, 1) + number * DAY for number in range(1461)]
    assert years.dates(years.all) == every
    ends = [dt.date(2023, 2, 28), dt.date(2024, 2, 29), dt.date(2025, 2, 28), dt.date(2026, 2, 28)]
    assert years.dates(years.of_month[LAST] & years.of_year[2]) == ends
    assert years.dates(years.of_week[0]) == [day for day in every if day.isoweekday() == 7]
    assert years.dates(years.between(every[7], every[9])) == every[7:9]
    assert years.between(dt.date(2000, 1, 1), dt.date(2030, 1, 1)) == years.all


# The two changes that were closest to each other, and common ones.
