from __future__ import annotations

import pickle
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.window import Window

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")
START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
zones = st.sampled_from([UTC, BERLIN, ZoneInfo("America/New_York"), timezone(timedelta(hours=5, minutes=30))])
instants = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=zones)


def test_strings_and_datetimes_make_the_same_window() -> None:
    for start in (START, "2026-03-01T00:00:00+00:00", "2026-03-01T00:00:00Z", "2026-03-01T01:00:00+01:00"):
        assert Window.of(start, "2026-03-02T00:00:00z") == Window(START, END)
    assert str(Window(START, END)) == "[2026-03-01T00:00:00+00:00, 2026-03-02T00:00:00+00:00)"


@pytest.mark.parametrize("bound", ["from_dt", "to_dt"])
@pytest.mark.parametrize(
    "value", ["2026-03-01", "2026-03-01T00:00:00", datetime(2026, 3, 1), "yesterday", "", "Z", None, 3, date(2026,
    3, 1)]
)  # fmt: skip
def test_bound_that_is_no_instant_is_refused_by_name(bound: str, value: Any) -> None:
    with pytest.raises(ValueError, match=bound):
        Window.of(**{"from_dt": START, "to_dt": END, bound: value})


def test_naive_bound_is_refused_with_an_example() -> None:
    with pytest.raises(ValueError, match=r"such as 2026-03-01T00:00:00\+00:00"):
        Window.of("2026-03-01T00:00:00", END)


@pytest.mark.parametrize("to_dt", [START, START - timedelta(microseconds=1), datetime(2026, 3, 1, 1, tzinfo=BERLIN)])
def test_empty_or_inverted_window_is_refused(to_dt: datetime) -> None:
    with pytest.raises(ValueError, match="empty or inverted"):
        Window(START, to_dt)


def test_instant_that_utc_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match="outside of the years"):
        Window(START, datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))))


def test_window_is_half_open() -> None:
    window = Window(START, END)
    assert window.contains(START)
    assert window.contains(END - timedelta(microseconds=1))
    assert not window.contains(END)
    assert not window.contains(START - timedelta(microseconds=1))


def test_hour_that_comes_twice_is_two_hours() -> None:
    """In one zone Python compares and subtracts wall clocks."""
    first = datetime(2025, 10, 26, 2, 30, tzinfo=BERLIN)
    second = datetime(2025, 10, 26, 2, 10, fold=1, tzinfo=BERLIN)
    window = Window(first, second)
    assert window.wire() == {"from_dt": "2025-10-26T00:30:00+00:00", "to_dt": "2025-10-26T01:09:59.999999+00:00"}
    assert window.contains(datetime(2025, 10, 26, 2, 45, tzinfo=BERLIN))
    assert not window.contains(datetime(2025, 10, 26, 2, 45, fold=1, tzinfo=BERLIN))
    with pytest.raises(ValueError, match="inverted"):
        Window(second, first)
    end = datetime(2025, 10, 26, 2, fold=1, tzinfo=BERLIN)
    assert Window(first, end).wire()["to_dt"] == "2025-10-26T00:59:59.999999+00:00"


@settings(max_examples=100, deadline=None)
@given(instants, instants, instants)
def test_wire_bounds_are_the_same_instants_inclusively(start: datetime, end: datetime, now: datetime) -> None:
    """See docs/protocol.md#the-bounds-of-a-window."""
    if start.timestamp() >= end.timestamp():
        with pytest.raises(ValueError, match="inverted"):
            Window(start, end)
        return
    window = Window(start, end)
    wire = {name: datetime.fromisoformat(text) for name, text in window.wire().items()}
    assert all(bound.utcoffset() == timedelta(0) for bound in wire.values())
    assert wire["from_dt"] == start.astimezone(UTC)
    assert wire["to_dt"] + timedelta(microseconds=1) == end.astimezone(UTC)
    assert window.contains(now) == (wire["from_dt"] <= now.astimezone(UTC) <= wire["to_dt"])
    assert Window.of(start.isoformat(), end.isoformat()).wire() == window.wire()
    assert pickle.loads(pickle.dumps(window)) == window  # noqa: S301
