"""A calendar in words, for people who read it in Dagster's UI."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from fdtcc_dagster.calendar.schedule import WEEKDAYS, Refresh, Schedule

_ORDINALS = ("first", "second", "third")
# Not of the standard library, which writes them in the language of the process.
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def in_words(schedule: Schedule) -> str:
    """Say when a schedule has refreshes: `every Monday 04:00; last day of each month 22:00 (UTC, data 2 h later)`.

    Args:
        schedule: The schedule.

    Returns:
        Its rules in their order, but weekdays of one time together; the zone; and the buffer, if there is one.
    """
    rules: dict[str, list[Refresh]] = {}
    for rule in schedule.refreshs:
        rules.setdefault(f"{rule.time} weekly" if rule.cycle == "weekly" else repr(rule), []).append(rule)
    later = f", data {duration(schedule.buffer)} later" if schedule.buffer else ""
    return f"{'; '.join(_rule(same) for same in rules.values())} ({schedule.timezone}{later})"


def duration(length: dt.timedelta) -> str:
    """Write a duration with its units: `2 h`, `1 d 30 min`, `0.5 s`."""
    seconds, parts = int(length.total_seconds()), []
    if seconds < 1:
        return f"{length.total_seconds():g} s"
    for unit, size in _UNITS:
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts)


def _rule(same: Sequence[Refresh]) -> str:
    rule = same[0]
    return f"{_day(rule, same)} {rule.time.removesuffix(':00')}"


def _day(rule: Refresh, same: Sequence[Refresh]) -> str:
    if rule.cycle == "daily":
        return "every day"
    if rule.cycle == "weekly":
        days = sorted({str(each.day) for each in same}, key=WEEKDAYS.index)
        return f"every {', '.join(days[:-1])} and {days[-1]}" if len(days) > 1 else f"every {days[0]}"
    assert isinstance(rule.day, int)  # noqa: S101  checked at construction
    day = f"{_ordinal(rule.day)} day" if rule.day > 0 else f"{_from_end(-rule.day)} day"
    if rule.cycle == "monthly":
        return f"{day} of each month"
    if rule.cycle == "quarterly":
        return f"{day} of the {_ORDINALS[(rule.month or 1) - 1]} month of each quarter"
    return f"{day} of {_MONTHS[(rule.month or 1) - 1]} each year"


def _ordinal(number: int) -> str:
    if number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    suffix = "th" if 11 <= number <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _from_end(number: int) -> str:
    return "last" if number == 1 else f"{_ordinal(number)}-to-last"
