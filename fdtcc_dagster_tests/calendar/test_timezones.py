"""Zones and their offsets."""

from __future__ import annotations

import datetime as dt

import pytest

from fdtcc_dagster.calendar.timezones import dagster_zone, offsets_throughout, zone_of
from fdtcc_dagster_tests.calendar.test_day_index import DAY


@pytest.mark.parametrize(("name", "year"), [("America/Recife", 2000), ("Africa/Tunis", 1943), ("Europe/Berlin", 2024)])
def test_offsets_of_a_year_are_those_of_each_day(name: str, year: int) -> None:
    first = dt.date(year, 1, 1)
    for zone in (zone_of(name), dagster_zone(name)):
        alone = [offsets_throughout(zone, first + n * DAY, first + n * DAY)[0] for n in range(365)]
        assert offsets_throughout(zone, first, first + 364 * DAY) == alone
        noons = [
            dt.datetime.combine(first + n * DAY, dt.time(16), dt.timezone.utc).astimezone(zone) for n in range(365)
        ]
        assert all(offset in (None, noon.utcoffset()) for offset, noon in zip(alone, noons, strict=True))
        assert 4 <= alone.count(None) <= 12
