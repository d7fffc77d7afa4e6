"""Local times in a time zone, exact over changes of its offset."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytz

from fdtcc_dagster.errors import ScheduleError, which_zone

UTC = dt.timezone.utc
_DAY = dt.timedelta(days=1)
_SHORTEST = 5  # days: no clocks have ever been changed and changed back within so few


def zone_of(name: str) -> dt.tzinfo:
    """The pytz zone of an IANA name in any case; `str()` of it is the spelling that Dagster needs.

    Raises:
        ScheduleError: There is no such zone.
    """
    try:
        return pytz.timezone(name)
    except (pytz.UnknownTimeZoneError, AttributeError) as error:
        raise ScheduleError(f"timezone={name!r} is unknown{which_zone(name)}") from error


def dagster_zone(name: str) -> dt.tzinfo:
    """The zone by which Dagster reads crons: from the system's database, which may be older or newer than pytz's."""
    return UTC if name == "UTC" else ZoneInfo(name)


def instant_of(zone: dt.tzinfo, day: dt.date, clock: dt.time) -> dt.datetime:
    """The instant, in UTC, at which the zone's clocks show a time of a day.

    A time that the clocks skip is moved forward by the gap (02:30 becomes 03:30). Of a time that they show twice, the
    first counts.
    """
    wall = dt.datetime.combine(day, clock)
    offset = _offset_throughout(zone, day)
    if offset is None:
        shown = _shown(zone, wall)
        offset = max(shown) if shown else _offset_at(zone, wall - _DAY)
    return (wall - offset).replace(tzinfo=UTC)


def is_repeated(zone: dt.tzinfo, day: dt.date, clock: dt.time) -> bool:
    """Tell whether the zone's clocks show a time of a day twice."""
    return _offset_throughout(zone, day) is None and len(_shown(zone, dt.datetime.combine(day, clock))) > 1


def is_shown_once(zone: dt.tzinfo, day: dt.date, clock: dt.time) -> bool:
    """Tell whether the zone's clocks show a time of a day exactly once: they neither skip nor repeat it."""
    return _offset_throughout(zone, day) is not None or len(_shown(zone, dt.datetime.combine(day, clock))) == 1


def date_of(zone: dt.tzinfo, day: dt.date, clock: dt.time) -> dt.date:
    """The local date of `instant_of`: `day`, unless the zone skips that day's time (as Samoa did on 2011-12-30)."""
    if _offset_throughout(zone, day) is not None:
        return day
    return instant_of(zone, day, clock).astimezone(zone).date()


def _shown(zone: dt.tzinfo, wall: dt.datetime) -> set[dt.timedelta]:
    """The offsets with which the zone's clocks show a naive time: none, one or two."""
    # A day before and after lie on both sides of a change: no offset exceeds a day.
    around = {_offset_at(zone, wall - _DAY), _offset_at(zone, wall + _DAY)}
    return {offset for offset in around if _offset_at(zone, wall - offset) == offset}


def _offset_at(zone: dt.tzinfo, utc: dt.datetime) -> dt.timedelta:
    offset = utc.replace(tzinfo=UTC).astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101  zones always have one
    return offset


def offsets_throughout(zone: dt.tzinfo, first: dt.date, last: dt.date) -> list[dt.timedelta | None]:
    """The offsets of a zone on consecutive days: None for a day near a change.

    An offset is given if the zone's clocks keep it from the day before to the day after.
    """
    begin, count = dt.datetime.combine(first, dt.time()) - _DAY, (last - first).days + 4
    steps = [*range(0, count - 1, _SHORTEST), count - 1]
    offsets = [_offset_at(zone, begin)]
    for number, following in pairwise(steps):
        offset = _offset_at(zone, begin + following * _DAY)
        if offset == offsets[-1]:
            offsets += [offset] * (following - number)
        else:
            offsets += [_offset_at(zone, begin + day * _DAY) for day in range(number + 1, following + 1)]
    return [before if before == after else None for before, after in zip(offsets, offsets[3:], strict=False)]


@lru_cache(maxsize=1 << 16)
def _offset_throughout(zone: dt.tzinfo, day: dt.date) -> dt.timedelta | None:
    """The offset during a day, or None near a change. Cached, because hundreds of calendars ask for the same days."""
    return offsets_throughout(zone, day, day)[0]
