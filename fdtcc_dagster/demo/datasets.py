"""The demo's datasets: how a user of this package declares three calendars; see `fdtcc_dagster.demo`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from fdtcc_dagster.calendar.schedule import Schedule
from fdtcc_dagster.dataset import FoundryDataset

HISTORY = timedelta(weeks=8)
SLICED_HISTORY = timedelta(weeks=3)
"""A snapshot of `flights` has the rows of four weeks: the first of them is not sure to be there as a whole."""

MONDAYS = Schedule([{"cycle": "weekly", "day": "Monday", "time": "04:00:00"}], buffer=timedelta(hours=2))
FIRST_AND_MONDAYS = Schedule(
    [
        {"cycle": "monthly", "day": 1, "time": "02:00:00"},
        {"cycle": "weekly", "day": "Monday", "time": "02:00:00"},
    ],
    buffer=timedelta(minutes=60),
)
FIRST_LAST_AND_FRIDAYS = Schedule(
    [
        {"cycle": "monthly", "day": 1, "time": "06:00:00"},
        {"cycle": "monthly", "day": -1, "time": "22:00:00"},
        {"cycle": "weekly", "day": "Friday", "time": "08:00:00"},
    ],
    buffer=timedelta(hours=2),
)

FLIGHTS_SCHEMA = {
    "time_hour": "Datetime(us, UTC)",
    "dep_time": "Int64",
    "sched_dep_time": "Int64",
    "dep_delay": "Int64",
    "arr_time": "Int64",
    "sched_arr_time": "Int64",
    "arr_delay": "Int64",
    "carrier": "String",
    "flight": "Int64",
    "tailnum": "String",
    "origin": "String",
    "dest": "String",
    "air_time": "Int64",
    "distance": "Int64",
}
FLIGHTS_COLUMNS = {
    "time_hour": "The hour in which the departure was scheduled",
    "dep_time": "HHMM in local time, as all times but time_hour",
    "dep_delay": "Minutes; negative if it departed early",
    "arr_delay": "Minutes; negative if it arrived early",
    "carrier": "The airline's code",
    "tailnum": "The plane: see the asset planes",
    "air_time": "Minutes",
    "distance": "Miles",
}
PLANES_SCHEMA = {
    "tailnum": "String",
    "year": "Int64",
    "type": "String",
    "manufacturer": "String",
    "model": "String",
    "engines": "Int64",
    "seats": "Int64",
    "speed": "Int64",
    "engine": "String",
}


def demo_datasets(now: datetime | None = None) -> list[FoundryDataset]:
    """Declare the datasets: `flights` and `planes` with declared types, and `weather`, whose types are inferred.

    The partitions begin eight weeks before the newest refresh of `flights` that is available at `now`.
    """
    newest = MONDAYS.get_latest_refresh(now) - MONDAYS.buffer
    start = (newest - HISTORY).date()
    return [
        FoundryDataset(
            "flights",
            MONDAYS,
            start,
            FLIGHTS_SCHEMA,
            description="Departures from New York's airports in the four weeks until the refresh. Every Monday.",
            column_descriptions=FLIGHTS_COLUMNS,
            group_name="nycflights",
            owners=["team:punctuality"],
        ),
        FoundryDataset(
            "weather",
            FIRST_AND_MONDAYS,
            start,
            description="Hourly weather of New York's airports in the 13 weeks until the refresh. "
            "On the 1st of the month, and on Mondays.",
            group_name="nycflights",
        ),
        FoundryDataset(
            "planes",
            FIRST_LAST_AND_FRIDAYS,
            start,
            PLANES_SCHEMA,
            description="Planes that departed in the four weeks until the refresh. "
            "On the 1st and the last day of the month, and on Fridays.",
            group_name="nycflights",
        ),
    ]


def demo_slices(now: datetime | None = None) -> FoundryDataset:
    """Declare `flights` once more, as slices: each partition holds one week's departures, from any later snapshot.

    The asset is `flights_by_week`. Its partitions begin three weeks before the newest refresh.
    """
    flights = demo_datasets(now)[0]
    assert flights.start is not None  # noqa: S101  the demo declares no other ones
    return FoundryDataset(
        flights.name,
        flights.schedule,
        flights.start + HISTORY - SLICED_HISTORY,
        flights.schema,
        time_column="time_hour",
        column_descriptions=FLIGHTS_COLUMNS,
        asset_key="flights_by_week",
        description="Departures from New York's airports, week by week, cut from one snapshot.",
        group_name="nycflights",
    )


def available_refreshes(dataset: FoundryDataset, now: datetime) -> list[datetime]:
    """The refreshes of a dataset with a schedule that may be pulled, oldest first, without the buffer."""
    assert dataset.schedule is not None  # noqa: S101  the demo declares no other ones
    assert dataset.start is not None  # noqa: S101
    start = datetime(dataset.start.year, dataset.start.month, dataset.start.day, tzinfo=timezone.utc)
    return dataset.schedule.refreshes(start, now - dataset.schedule.buffer + timedelta(microseconds=1))


def is_live(dataset: FoundryDataset, refresh: datetime, now: datetime) -> bool:
    """Whether a refresh may be pulled now: from the end of its buffer until the next one."""
    return dataset.window(refresh.date().isoformat(), now).contains(now)


def was_missed(dataset: FoundryDataset, refresh: datetime) -> bool:
    """Whether nobody pulled a dataset between a refresh and the next one: `flights`, in one of any eight weeks."""
    return dataset.name == "flights" and refresh.date().toordinal() // 7 % 8 == 4
