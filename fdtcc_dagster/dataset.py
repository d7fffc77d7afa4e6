"""A Foundry dataset as its user declares it: a name, when it is refreshed, and what its columns are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.arguments import (
    check_appearance,
    check_asset_key_argument,
    checked_descriptions,
    shown,
    whole_number,
)
from fdtcc_dagster.calendar.own_partitions import own_keys, own_window
from fdtcc_dagster.calendar.partitions import build_partitions_def, checked_start, refresh_window, slice_window
from fdtcc_dagster.calendar.schedule import Schedule
from fdtcc_dagster.calendar.ticks import key_delay, tick_of
from fdtcc_dagster.calendar.timezones import UTC, instant_of, zone_of
from fdtcc_dagster.client.protocol import MissingVersion, check_missing_version
from fdtcc_dagster.client.pull import check_name
from fdtcc_dagster.errors import ScheduleError
from fdtcc_dagster.names import check_asset_key
from fdtcc_dagster.pandas_csv.schema import SchemaLike, to_schema
from fdtcc_dagster.time_column import TimeColumn, check_time_column
from fdtcc_dagster.window import Window


@dataclass(frozen=True)
class PartitionWindow:
    """A partition, what is pulled for it, and when.

    Attributes:
        partition_key: Its key.
        window: The window of the pull of its snapshot, or of its rows' times where it is a slice.
        available_at: The aware instant from which it can be pulled.
        requested_at: When the schedule of `build_foundry_schedules` requests it: more than once if its date has several
            refreshes; empty if the dataset has its own partitions definition.
    """

    partition_key: str
    window: Window
    available_at: dt.datetime
    requested_at: tuple[dt.datetime, ...]


@dataclass(frozen=True, init=False)
class FoundryDataset:
    """A dataset, its partitions, and how it appears in Dagster.

    Attributes:
        name: The dataset's name, as the container knows it.
        schedule: The calendar of its refreshes, or None if it has its own partitions definition.
        start: The first date that may be a partition key, or None without a schedule.
        schema: Column → Polars data type, or None to infer the types.
        column_descriptions: Column → what it means, for Dagster's UI.
        missing_version: What to do for a past window in which nobody pulled the dataset: `"raise"`, or `"accept"` to
            store today's data on purpose. See docs/protocol.md#no-version-in-the-window.
        time: The time column, if a partition is a slice. None: a partition is a snapshot.
        asset_key: The asset's key, or None to leave it to the translator.
        description: The asset's description.
        group_name: The asset's group.
        owners: The asset's owners.
        tags: The asset's tags.
    """

    name: str
    schedule: Schedule | None
    start: dt.date | None
    schema: pl.Schema | None = field(hash=False)
    column_descriptions: Mapping[str, str] = field(hash=False)
    missing_version: MissingVersion
    time: TimeColumn | None
    asset_key: dg.AssetKey | None
    description: str | None
    group_name: str | None
    owners: tuple[str, ...]
    tags: Mapping[str, str] = field(hash=False)
    _own_partitions_def: dg.TimeWindowPartitionsDefinition | None = field(repr=False)

    def __init__(
        self,
        name: str,
        schedule: Schedule | None = None,
        start: dt.date | str | None = None,
        schema: SchemaLike | None = None,
        *,
        partitions_def: dg.TimeWindowPartitionsDefinition | None = None,
        missing_version: MissingVersion = "raise",
        time_column: str | None = None,
        allow_null_times: bool = False,
        complete_history: bool = False,
        asset_key: dg.AssetKey | Sequence[str] | str | None = None,
        description: str | None = None,
        group_name: str | None = None,
        owners: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        column_descriptions: Mapping[str, str] | None = None,
    ) -> None:
        """Check the declaration and freeze it; its partitions are built when they are first asked for.

        Args:
            name: The dataset's name, as the container knows it.
            schedule: The calendar of its refreshes; each date with a refresh becomes a partition.
            start: With a schedule: the first date that may be a partition key, as a date, a datetime at midnight in
                the schedule's zone, or `"YYYY-MM-DD"`.
            schema: Column → Polars data type or its name, such as `"Datetime(us, UTC)"`; types are inferred if None.
            partitions_def: Instead of a schedule: partitions whose own windows are pulled.
            missing_version: What to do for a past window in which nobody pulled the dataset: `"raise"`, or
                `"accept"` to store today's data knowingly.
            time_column: The column that makes a partition a slice: the rows with from_dt ≤ time < to_dt of its window,
                of any snapshot that was pulled after it. It holds datetimes (without a zone: UTC), dates, or ISO 8601
                strings of either; a date is midnight, of the partitions' zone if `Date` is declared and else of UTC.
            allow_null_times: Whether rows without a time may be left out of all slices; otherwise they are an error.
            complete_history: Whether the dataset never removes rows, so that a slice whose window begins
                before the snapshot's earliest time is complete; otherwise it is an error, because its rows may be gone.
            asset_key: The asset's key, as text with slashes between its parts; the translator chooses one if None.
            description: The asset's description.
            group_name: The asset's group.
            owners: The asset's owners, e-mail addresses or `"team:…"`.
            tags: The asset's tags.
            column_descriptions: Column of the schema → what it means; Dagster's UI shows it beside the type.

        Raises:
            ScheduleError: There is not exactly one of `schedule` and `partitions_def`, or the start is no date.
            ValueError: Another argument is not one of these.
        """
        check_name(name)
        try:
            check_missing_version(missing_version)
            owners, tags = check_appearance(name, description, group_name, owners, tags)
            key, columns = _asset_key(asset_key), None if schema is None else to_schema(schema)
            descriptions = checked_descriptions(column_descriptions, columns)
            if time_column is not None:
                check_time_column(time_column, allow_null_times, complete_history, columns)
        except ValueError as error:
            raise ValueError(f"dataset {name!r}: {error}") from error
        values: dict[str, Any] = {
            "name": name,
            "schedule": schedule,
            "start": _checked_start(name, schedule, start, partitions_def),
            "schema": columns,
            "column_descriptions": descriptions,
            "missing_version": missing_version,
            "time": None,
            "asset_key": key,
            "description": description,
            "group_name": group_name,
            "owners": owners,
            "tags": tags,
            "_own_partitions_def": partitions_def,
        }
        if time_column is not None:
            # What is not declared as Date may be cut to dates by pandas, whatever the zone: those are midnights in UTC.
            dates = columns is not None and columns.get(time_column) == pl.Date
            calendar = (schedule or partitions_def) if dates else None
            zone = calendar.timezone if calendar else "UTC"
            values["time"] = TimeColumn(time_column, zone, allow_null_times, complete_history)
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)

    @cached_property
    def partitions_def(self) -> dg.TimeWindowPartitionsDefinition:
        """The partitions: one for each refresh date of the schedule, or the ones that were declared.

        Raises:
            ScheduleError: No definition has exactly the schedule's dates as keys.
        """
        if self.schedule is None or self.start is None:
            assert self._own_partitions_def is not None  # noqa: S101  checked at construction
            return self._own_partitions_def
        return build_partitions_def(self.schedule, self.start, slices=self.time is not None)

    def window(self, partition_key: str, now: dt.datetime | None = None) -> Window:
        """The window of a partition: of the pull of its snapshot, or of its rows' times where it is a slice.

        Args:
            partition_key: A key of `partitions_def`; it may lie in the future.
            now: An aware instant, the current one if None. It matters only for dates with several refreshes, see
                `refresh_window`.

        Returns:
            With a schedule [refresh + buffer, next refresh), in the schedule's zone, or up to next refresh + buffer
            where that would be empty; [refresh, next refresh) for a slice. Otherwise the partition's own bounds, in
            UTC.

        Raises:
            ScheduleError: The key does not belong to the dataset.
        """
        try:
            if self.schedule is None:
                return own_window(self.partitions_def, partition_key)
            window = (
                refresh_window(self.schedule, partition_key, now)
                if self.time is None
                else slice_window(self.schedule, partition_key)
            )
        except ScheduleError as error:
            raise ScheduleError(f"dataset {self.name!r}: {error}", dataset=self.name) from error
        assert self.start is not None  # noqa: S101  checked at construction
        if partition_key < self.start.isoformat():
            raise ScheduleError(
                f"dataset {self.name!r}: partition key {partition_key!r} lies before the start, {self.start}",
                dataset=self.name,
                window=window,
            )
        return window

    def windows(self, since: dt.datetime | None = None, count: int = 10) -> list[PartitionWindow]:
        """List partitions with their windows: the one that is current at an instant, and those after it.

        Args:
            since: An aware instant; now, if None.
            count: How many partitions at most. There are fewer where the definition ends.

        Returns:
            The partitions in the order of their windows. They may lie in the future.

        Raises:
            ScheduleError: `since` is naive, or no definition has exactly the schedule's dates as keys.
            ValueError: `count` is less than zero.
        """
        whole_number("count", count, 0)
        since = dt.datetime.now(UTC) if since is None else since
        if not isinstance(since, dt.datetime) or since.utcoffset() is None:
            raise ScheduleError(f"since={since!r} is not allowed; give a datetime with a time zone")
        keys = (
            own_keys(self.partitions_def, since) if self.schedule is None else self._schedule_keys(self.schedule, since)
        )
        return [self._described(key) for key in islice(keys, count)]

    def _schedule_keys(self, schedule: Schedule, since: dt.datetime) -> Iterator[str]:
        assert self.start is not None  # noqa: S101  checked at construction
        zone, definition = zone_of(schedule.timezone), self.partitions_def
        first = instant_of(zone, self.start, dt.time())
        # A slice is of the time since a refresh; a snapshot may be pulled only when the buffer has passed, too.
        buffer = dt.timedelta(0) if self.time else schedule.buffer
        refresh = schedule.last_before(since + dt.timedelta(microseconds=1) - buffer)
        if refresh < first:
            refresh = schedule.first_from(first)
        while definition.end is None or refresh < definition.end:
            yield refresh.date().isoformat()
            refresh = schedule.first_from(instant_of(zone, refresh.date() + dt.timedelta(days=1), dt.time()))

    def _described(self, key: str) -> PartitionWindow:
        window, schedule = self.window(key), self.schedule
        available = window.from_dt if self.time is None else self.complete_at(key)
        if schedule is None:
            return PartitionWindow(key, window, available, ())
        refreshes = [window.to_dt]
        if self.time is None:
            zone, day = zone_of(schedule.timezone), dt.date.fromisoformat(key)
            bounds = (instant_of(zone, each, dt.time()) for each in (day, day + dt.timedelta(days=1)))
            refreshes = schedule.refreshes(*bounds)
        delay = key_delay(self.partitions_def)
        ticks = sorted({tick_of(schedule, refresh, delay).astimezone(UTC) for refresh in refreshes})
        return PartitionWindow(
            key, window, available, tuple(tick.astimezone(zone_of(schedule.timezone)) for tick in ticks)
        )

    def complete_at(self, partition_key: str) -> dt.datetime:
        """When a slice is over and the rows of its window may be pulled.

        Args:
            partition_key: A key of `partitions_def`.

        Returns:
            The end of its window, plus the schedule's buffer.

        Raises:
            ScheduleError: The key does not belong to the dataset.
        """
        end = self.window(partition_key).to_dt
        return end if self.schedule is None else self.schedule.available(end)


def _checked_start(
    name: str, schedule: Schedule | None, start: dt.date | str | None, partitions_def: object
) -> dt.date | None:
    if (schedule is None) == (partitions_def is None):
        raise ScheduleError(f"dataset {name!r}: give either a schedule and a start, or a partitions_def", dataset=name)
    if schedule is None:
        if not isinstance(partitions_def, dg.TimeWindowPartitionsDefinition):
            raise ScheduleError(
                f"dataset {name!r}: partitions_def={partitions_def!r} is no TimeWindowPartitionsDefinition; give one "
                "of time windows, such as dagster.DailyPartitionsDefinition",
                dataset=name,
            )
        if start is not None:
            raise ScheduleError(
                f"dataset {name!r}: start={start!r} goes with a schedule only; leave it out, as partitions_def "
                "has its own",
                dataset=name,
            )
        return None
    if not isinstance(schedule, Schedule):
        raise ScheduleError(
            f"dataset {name!r}: schedule={shown(schedule)} is no Schedule; give Schedule([…]) of its refreshes",
            dataset=name,
        )
    try:
        return checked_start(start, schedule)
    except ScheduleError as error:
        raise ScheduleError(f"dataset {name!r}: {error}", dataset=name) from None


def _asset_key(asset_key: dg.AssetKey | Sequence[str] | str | None) -> dg.AssetKey | None:
    if asset_key is None:
        return None
    check_asset_key_argument(asset_key)
    if isinstance(asset_key, str):
        asset_key = dg.AssetKey.from_user_string(asset_key)
    return check_asset_key(asset_key if isinstance(asset_key, dg.AssetKey) else dg.AssetKey(asset_key))
