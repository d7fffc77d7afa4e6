"""A code location with 300 datasets, whose calendars no two of them share and most of which no cron can express.

They have schedules, or with LOAD_TIME=all conditions, checks and a sensor.
"""

import datetime as dt
import os

import fdtcc_dagster as fd

DATASETS = int(os.environ.get("LOAD_TIME_DATASETS", "300"))
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Sydney")


def _calendar(number: int) -> fd.Schedule:
    clock = f"{number % 24:02}:{number % 60:02}:00"
    weekday = ("Monday", "Wednesday", "Friday", "Sunday")[number // 4 % 4]
    rules: dict[int, list[dict[str, object]]] = {
        # From the second-to-last day of the month to the last but thirty.
        0: [{"cycle": "monthly", "day": -2 - number // 4 % 30, "time": clock}],
        # Clamped in short months.
        1: [{"cycle": "monthly", "day": 29 + number // 4 % 2, "time": clock}],
        2: [
            {"cycle": "quarterly", "day": 1 + number // 4 % 28, "month": 1 + number % 3, "time": clock},
            {"cycle": "weekly", "day": weekday, "time": clock},
        ],
        3: [
            {"cycle": "monthly", "day": -2 - number // 4 % 30, "time": clock},
            {"cycle": "weekly", "day": weekday, "time": "06:00:00"},
        ],
    }
    return fd.Schedule(rules[number % 4], dt.timedelta(minutes=90 + number), ZONES[number % len(ZONES)])


LONG = {
    "daily": fd.Schedule([{"cycle": "daily", "time": "04:00:00"}], timezone="Europe/Berlin"),
    "union": fd.Schedule(
        [
            {"cycle": "weekly", "day": "Monday", "time": "06:00:00"},
            {"cycle": "monthly", "day": -2, "time": "02:30:00"},
            {"cycle": "quarterly", "day": 30, "time": "23:00:00"},
        ],
        timezone="Europe/Berlin",
    ),
}
"""The calendars of a dataset with a long history: one that cron can say, and one that it cannot."""
HISTORY, START = os.environ.get("LOAD_TIME_HISTORY"), os.environ.get("LOAD_TIME_START", "2020-01-01")
ALL = os.environ.get("LOAD_TIME") == "all"

defs = fd.build_foundry_definitions(
    [
        fd.FoundryDataset(f"dataset_{number}", LONG[HISTORY] if HISTORY else _calendar(number), START)
        for number in range(DATASETS)
    ],
    resource=fd.FoundryContainerResource(host="127.0.0.1"),
    automation="condition" if ALL else "schedule",
    sensor=ALL,
    checks=ALL,
)
