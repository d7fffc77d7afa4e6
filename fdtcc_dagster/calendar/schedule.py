"""When Foundry rebuilds a dataset: an exact calendar of refreshes, without Dagster or cron."""

from __future__ import annotations

import datetime as dt
import re
from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fdtcc_dagster.calendar.timezones import UTC, date_of, instant_of, zone_of
from fdtcc_dagster.errors import ScheduleError, did_you_mean

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
CYCLES = ("daily", "weekly", "monthly", "quarterly", "yearly")
_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]")
_SHORT_TIME = re.compile(r"\s*(\d{1,2})(?::(\d{1,2}))?(?::(\d{1,2}))?\s*")
_ONE_DAY = dt.timedelta(days=1)
_RESOLUTION = dt.timedelta(microseconds=1)
_LONGEST_BUFFER = dt.timedelta(days=366)
_YEARS = range(1800, 9000)
_EXAMPLE = "{'cycle': 'weekly', 'day': 'Monday', 'time': '04:00:00'}"


@dataclass(frozen=True)
class Refresh:
    """One rule of a calendar, such as "on the last day of every month at 02:00:00".

    Attributes:
        cycle: `"daily"`, `"weekly"`, `"monthly"`, `"quarterly"` or `"yearly"`.
        day: None for a daily refresh; the English name of a weekday, in any case, for a weekly one; otherwise the day
            of the month, 1 to 31 from its start or -1 to -31 from its end. A day that a month does not have becomes
            the nearest one that it has: 31 in April is the 30th, -31 the 1st.
        time: The time of day as `"HH:MM:SS"`, read in the schedule's zone.
        month: For a quarterly refresh the month within the quarter, 1 (default) to 3; for a yearly one the month of
            the year, 1 to 12; None for all others.

    Raises:
        ScheduleError: A field is not one of these.
    """

    cycle: str
    day: int | str | None
    time: str
    month: int | None = None

    def __post_init__(self) -> None:
        _check_cycle(self.cycle)
        object.__setattr__(self, "day", self._checked_day())
        object.__setattr__(self, "month", self._checked_month())
        if not isinstance(self.time, str) or not _TIME.fullmatch(self.time):
            raise ScheduleError(
                f"time={self.time!r} is no time of day; allowed is a string from '00:00:00' to '23:59:59'"
                f"{' (YAML needs the quotes)' if isinstance(self.time, int) else ''}{_time_meant(self.time)}"
            )

    def _checked_day(self) -> int | str | None:
        if self.cycle == "daily":
            if self.day is not None:
                raise ScheduleError(f"day={self.day!r} makes no sense for a daily refresh; leave it out")
            return None
        if self.cycle == "weekly":
            if not isinstance(self.day, str) or self.day.capitalize() not in WEEKDAYS:
                raise ScheduleError(
                    f"day={self.day!r} of a weekly refresh: allowed are {', '.join(WEEKDAYS)}"
                    f"{did_you_mean(_in_full(self.day), WEEKDAYS)}"
                )
            return self.day.capitalize()
        if type(self.day) is not int or not 1 <= abs(self.day) <= 31:
            raise ScheduleError(
                f"day={self.day!r} of a {self.cycle} refresh: allowed are the integers 1 to 31, from the month's "
                "start, and -1 to -31, from its end"
            )
        return self.day

    def _checked_month(self) -> int | None:
        limit = {"quarterly": 3, "yearly": 12}.get(self.cycle)
        if limit is None:
            if self.month is not None:
                raise ScheduleError(f"month={self.month!r} makes no sense for a {self.cycle} refresh; leave it out")
            return None
        month = 1 if self.month is None and self.cycle == "quarterly" else self.month
        if type(month) is not int or not 1 <= month <= limit:
            raise ScheduleError(f"month={month!r} of a {self.cycle} refresh: allowed are the integers 1 to {limit}")
        return month

    @classmethod
    def init_by_object(cls, obj: Mapping[str, object]) -> Refresh:
        """Build a rule from its dictionary, such as `{"cycle": "monthly", "day": 1, "time": "02:00:00"}`.

        Args:
            obj: The attributes by name; `day` is left out for a daily refresh, `month` where it has no meaning.

        Returns:
            The rule.

        Raises:
            ScheduleError: It is no dictionary, a key is missing or unknown, or a value is not allowed.
        """
        if not isinstance(obj, Mapping):
            raise ScheduleError(f"{obj!r} is no refresh; give a dictionary such as {_EXAMPLE}")
        if "cycle" in obj:  # first, because it decides what else is required
            _check_cycle(obj["cycle"])
        required = {"cycle", "time"} if obj.get("cycle") == "daily" else {"cycle", "day", "time"}
        missing, unknown = required - obj.keys(), obj.keys() - {"cycle", "day", "time", "month"}
        if missing:
            raise ScheduleError(
                f"refresh {dict(obj)!r} lacks {' and '.join(map(repr, sorted(missing)))}"
                f"{''.join(f', and has {key!r}{did_you_mean(key, missing)}' for key in unknown)}"
            )
        if unknown:
            raise ScheduleError(
                f"refresh {dict(obj)!r} has {' and '.join(sorted(map(repr, unknown)))}, which it cannot have; "
                "allowed are 'cycle', 'day', 'time', and 'month' for quarterly and yearly refreshes"
            )
        return cls(**{"day": None, **obj})  # type: ignore[arg-type]  # the constructor checks them

    def get_latest_refresh(self, date: dt.datetime | None = None) -> dt.datetime:
        """The latest refresh at or before an instant, in UTC and without a buffer.

        Args:
            date: An aware instant; now, if None.

        Returns:
            The refresh's instant. Only a `Schedule` has a time zone; a rule on its own is read in UTC.

        Raises:
            ScheduleError: `date` is naive.
        """
        return Schedule([self], buffer=dt.timedelta(0)).get_latest_refresh(date)

    def get_next_refresh(self, date: dt.datetime | None = None) -> dt.datetime:
        """The earliest refresh after an instant; otherwise like `get_latest_refresh`."""
        return Schedule([self], buffer=dt.timedelta(0)).get_next_refresh(date)

    def days(self, first: dt.date, last: dt.date) -> Iterator[dt.date]:
        """The days of the calendar on which the rule has a refresh, from `first` to `last` inclusive."""
        if self.cycle in ("daily", "weekly"):
            wait = 0 if self.cycle == "daily" else (WEEKDAYS.index(str(self.day)) - first.weekday()) % 7
            step = 1 if self.cycle == "daily" else 7
            for ordinal in range(first.toordinal() + wait, last.toordinal() + 1, step):
                yield dt.date.fromordinal(ordinal)
            return
        for year in range(first.year, last.year + 1):
            for month in self._months():
                day = self._day_in(year, month)
                if first <= day <= last:
                    yield day

    def clock(self) -> dt.time:
        """The time of day."""
        return dt.time.fromisoformat(self.time)

    def _months(self) -> Iterable[int]:
        if self.cycle == "monthly":
            return range(1, 13)
        month = self.month or 1
        return (month,) if self.cycle == "yearly" else range(month, 13, 3)

    def _day_in(self, year: int, month: int) -> dt.date:
        length, day = monthrange(year, month)[1], self.day
        assert isinstance(day, int)  # noqa: S101  checked at construction
        return dt.date(year, month, min(day, length) if day > 0 else max(length + 1 + day, 1))


@dataclass(frozen=True, init=False)
class Schedule:
    """The calendar by which Foundry rebuilds a dataset.

    Attributes:
        refreshs: The rules. If several of them name a date, it is refreshed at each of their times.
        buffer: How long after a refresh its data may be pulled, zero or more.
        timezone: The IANA name of the zone in which the rules are read. A local time that the clocks skip is moved
            forward by the gap; of one that occurs twice, the first counts. pytz knows no summer time after 2037.

    Example:
        >>> schedule = Schedule([{"cycle": "monthly", "day": -1, "time": "02:00:00"}])
        >>> schedule.get_next_refresh(dt.datetime(2024, 2, 1, tzinfo=dt.timezone.utc)).isoformat()
        '2024-02-29T04:00:00+00:00'
    """

    refreshs: tuple[Refresh, ...]
    buffer: dt.timedelta
    timezone: str

    def __init__(
        self,
        refreshs: Iterable[Refresh | Mapping[str, object]],
        buffer: dt.timedelta = dt.timedelta(minutes=120),
        timezone: str = "UTC",
    ) -> None:
        """Check the rules and freeze them.

        Args:
            refreshs: At least one rule, as a `Refresh` or as the dictionary of `Refresh.init_by_object`.
            buffer: How long after a refresh its data may be pulled, zero or more.
            timezone: An IANA name in any case.

        Raises:
            ScheduleError: A value is not one of these.
        """
        if not isinstance(refreshs, Iterable) or isinstance(refreshs, (str, bytes, Mapping)):
            meant = f"a list of it: [{refreshs!r}]" if isinstance(refreshs, (Mapping, Refresh)) else f"[{_EXAMPLE}, …]"
            raise ScheduleError(f"refreshs={refreshs!r} is no list of refreshes; give {meant}")
        rules = tuple(rule if isinstance(rule, Refresh) else Refresh.init_by_object(rule) for rule in refreshs)
        if not rules:
            raise ScheduleError(f"refreshs is empty; give at least one refresh, such as {_EXAMPLE}")
        object.__setattr__(self, "refreshs", rules)
        object.__setattr__(self, "buffer", _checked_buffer("buffer", buffer))
        object.__setattr__(self, "timezone", str(zone_of(timezone)))

    def get_latest_refresh(
        self, date: dt.datetime | None = None, buffer_overwrite: dt.timedelta | None = None
    ) -> dt.datetime:
        """The latest instant, at or before `date`, at which a refresh became available.

        Args:
            date: An aware instant; now, if None.
            buffer_overwrite: Replaces the schedule's buffer, if not None; zero is respected.

        Returns:
            The refresh plus the buffer, aware, in the schedule's zone.

        Raises:
            ScheduleError: `date` is naive, or a buffer is negative.
        """
        buffer, moment = self._buffer_and_moment(date, buffer_overwrite)
        return self._zoned(self.last_before(moment - buffer + _RESOLUTION) + buffer)

    def get_next_refresh(
        self, date: dt.datetime | None = None, buffer_overwrite: dt.timedelta | None = None
    ) -> dt.datetime:
        """The earliest instant, after `date`, at which a refresh becomes available; like `get_latest_refresh`."""
        buffer, moment = self._buffer_and_moment(date, buffer_overwrite)
        return self._zoned(self.first_from(moment - buffer + _RESOLUTION) + buffer)

    def refreshes(self, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
        """The refreshes in a window, without the buffer.

        Args:
            start: The first instant, aware.
            end: The instant after the last one, aware.

        Returns:
            The instants in [start, end): sorted, distinct, aware, in the schedule's zone.

        Raises:
            ScheduleError: A bound is naive.
        """
        zone = zone_of(self.timezone)
        return [instant.astimezone(zone) for instant in self._between(_utc("start", start), _utc("end", end))]

    def available(self, refresh: dt.datetime) -> dt.datetime:
        """The instant from which a refresh may be pulled, `refresh` + buffer, in the schedule's zone."""
        return self._zoned(refresh + self.buffer)

    def refresh_dates(self, first: dt.date, last: dt.date) -> list[dt.date]:
        """The local dates from `first` to `last` inclusive that have a refresh: sorted and distinct."""
        zone = zone_of(self.timezone)
        found = {
            date_of(zone, day, rule.clock()) for rule in self.refreshs for day in rule.days(first - 2 * _ONE_DAY, last)
        }
        return sorted(day for day in found if first <= day <= last)

    def last_before(self, moment: dt.datetime) -> dt.datetime:
        """The latest refresh, without the buffer, before an aware instant; in the schedule's zone."""
        return self._zoned(self._nearest(moment, -1))

    def first_from(self, moment: dt.datetime) -> dt.datetime:
        """The earliest refresh, without the buffer, at or after an aware instant; in the schedule's zone."""
        return self._zoned(self._nearest(moment, 1))

    def _nearest(self, moment: dt.datetime, direction: int) -> dt.datetime:
        moment = _utc("date", moment)
        # Even a yearly refresh is never further away than 366 days.
        for days in (8, 40, 400):
            other = moment + direction * dt.timedelta(days=days)
            found = self._between(min(moment, other), max(moment, other))
            if found:
                return found[0 if direction > 0 else -1]
        raise AssertionError(f"{self!r} has no refresh within 400 days of {moment.isoformat()}")

    def _between(self, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
        zone = zone_of(self.timezone)
        # Offsets are up to 14 hours, and a skipped day moves its refreshes by another day.
        first, last = start.date() - 3 * _ONE_DAY, end.date() + _ONE_DAY
        found = {instant_of(zone, day, rule.clock()) for rule in self.refreshs for day in rule.days(first, last)}
        return sorted(instant for instant in found if start <= instant < end)

    def _buffer_and_moment(
        self, date: dt.datetime | None, overwrite: dt.timedelta | None
    ) -> tuple[dt.timedelta, dt.datetime]:
        buffer = self.buffer if overwrite is None else _checked_buffer("buffer_overwrite", overwrite)
        return buffer, dt.datetime.now(UTC) if date is None else _utc("date", date)

    def _zoned(self, instant: dt.datetime) -> dt.datetime:
        # By way of UTC, because arithmetic on pytz datetimes keeps the old offset.
        return instant.astimezone(UTC).astimezone(zone_of(self.timezone))


def _check_cycle(cycle: object) -> None:
    if isinstance(cycle, str) and cycle.casefold() == "hourly":
        raise ScheduleError(
            f"cycle={cycle!r} is not allowed: instead of a schedule, give the dataset a partitions_def such as "
            "dagster.HourlyPartitionsDefinition"
        )
    if cycle not in CYCLES:
        allowed = ", ".join(map(repr, CYCLES))
        raise ScheduleError(f"cycle={cycle!r} is unknown; allowed are {allowed}{did_you_mean(cycle, CYCLES)}")


def _in_full(day: object) -> object:
    """The weekday of which a day is an abbreviation, such as "Tues" or "Mo."; or else the day itself."""
    short = day.rstrip(".").capitalize() if isinstance(day, str) else ""
    return next((name for name in WEEKDAYS if len(short) > 1 and name.startswith(short)), day)


def _time_meant(time: object) -> str:
    """The end of an error: a time of day such as "4:00", written in full."""
    short = _SHORT_TIME.fullmatch(str(time))
    meant = ":".join(part.zfill(2) for part in short.groups("0")) if short else ""
    return f"; did you mean {meant!r}?" if _TIME.fullmatch(meant) else ""


def _checked_buffer(name: str, buffer: dt.timedelta) -> dt.timedelta:
    if not isinstance(buffer, dt.timedelta) or not dt.timedelta(0) <= buffer <= _LONGEST_BUFFER:
        example = "" if isinstance(buffer, dt.timedelta) else ", such as datetime.timedelta(hours=2)"
        raise ScheduleError(f"{name}={buffer!r} is not allowed; give a timedelta from zero to 366 days{example}")
    return buffer


def _utc(name: str, value: dt.datetime) -> dt.datetime:
    if not isinstance(value, dt.datetime) or value.utcoffset() is None:
        raise ScheduleError(f"{name}={value!r} is not allowed; give a datetime with a time zone")
    if value.year not in _YEARS:
        raise ScheduleError(f"{name}={value.isoformat()} is not allowed; give a year from 1800 to 8999")
    return value.astimezone(UTC)
