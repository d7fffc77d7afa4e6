"""A day that lasts: tests of "today" must not fail because midnight comes while they run."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

NOW = datetime.now(timezone.utc)
ZONE = "UTC" if 6 <= NOW.hour < 18 else "Asia/Kamchatka"
"""A zone in which it is between six and eighteen now; Kamchatka is twelve hours ahead of UTC all year round."""
TODAY = NOW.astimezone(ZoneInfo(ZONE)).date()
"""The date in that zone, for six hours at least."""


def midnight(day: date | str) -> datetime:
    """The beginning of a date in that zone."""
    first = date.fromisoformat(day) if isinstance(day, str) else day
    return datetime(first.year, first.month, first.day, tzinfo=ZoneInfo(ZONE))


def utc_today(seconds: float) -> date:
    """The date in UTC, which stays so for some seconds; waits for midnight if it is nearer."""
    now = datetime.now(timezone.utc)
    end = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    if (left := (end - now).total_seconds()) < seconds:
        time.sleep(left)
    return datetime.now(timezone.utc).date()
