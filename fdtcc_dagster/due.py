"""What should be there: the partitions of a dataset that could be materialized by now, and who requested them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import dagster as dg

from fdtcc_dagster.calendar.schedule import Schedule
from fdtcc_dagster.calendar.ticks import key_delay, tick_of
from fdtcc_dagster.calendar.timezones import UTC, instant_of, zone_of
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import is_of_another
from fdtcc_dagster.metadata import ASSET_TAG, DECLARATION, WINDOW_TO, values_of

_RUN_KEY_TAG = "dagster/run_key"
_INSTANT = dt.timedelta(microseconds=1)
_KEYS_AT_ONCE = 500
"""How many one query names: within what databases allow."""


@dataclass(frozen=True)
class Due:
    """A partition that could be materialized from some instant on.

    Attributes:
        partition_key: The partition.
        since: A materialization counts if its window ends later than this; earlier ones hold the data of an earlier
            refresh.
        run_key: The dataset, the key and the refresh; the same request always has the same run key.
    """

    partition_key: str
    since: dt.datetime
    run_key: str

    def request(self, asset_key: dg.AssetKey) -> dg.RunRequest:
        """A run request for the dataset's asset alone."""
        return dg.RunRequest(
            run_key=self.run_key,
            partition_key=self.partition_key,
            asset_selection=[asset_key],
            tags={ASSET_TAG: asset_key.to_user_string()},
        )


def newest_due(dataset: FoundryDataset, now: dt.datetime, limit: int, after: dt.datetime | None = None) -> list[Due]:
    """The newest partitions of a dataset that are due, newest first, with distinct keys.

    Args:
        dataset: The dataset. With a schedule, a partition is due from the minute in which its refresh is available; of
            several refreshes on a date, the latest one counts. A slice is due when the refresh that completes it is
            available. With its own partitions definition, a partition is due as soon as the definition lists it, and a
            slice when its window is over.
        now: An aware instant.
        limit: How many at most.
        after: An aware instant; what was due then is left out.
    """
    if dataset.schedule is None:
        dues = _own(dataset, now, after)
    elif dataset.time is None:
        dues = _refreshes(dataset, dataset.schedule, now, after)
    else:
        dues = _slices(dataset, dataset.schedule, now, after)
    return list(islice(dues, limit))


def next_due(dataset: FoundryDataset, now: dt.datetime) -> dt.datetime | None:
    """When the next refresh becomes available that makes a partition due, not before the dataset's start.

    Returns:
        The instant, in the schedule's zone; None without a schedule.
    """
    schedule, start = dataset.schedule, dataset.start
    if schedule is None or start is None:
        return None
    first = schedule.first_from(instant_of(zone_of(schedule.timezone), start, dt.time()))
    available = schedule.available(first) if dataset.time is None else dataset.complete_at(first.date().isoformat())
    return max(schedule.get_next_refresh(now), available, key=dt.datetime.timestamp)


def latest_records(
    instance: dg.DagsterInstance, asset_keys: Sequence[dg.AssetKey]
) -> dict[dg.AssetKey, dg.EventLogRecord]:
    """The latest materialization of each asset that has one; hundreds of assets are one query."""
    found: dict[dg.AssetKey, dg.EventLogRecord] = {}
    for first in range(0, len(asset_keys), _KEYS_AT_ONCE):
        for record in instance.get_asset_records(asset_keys[first : first + _KEYS_AT_ONCE]):
            latest = record.asset_entry.last_materialization_record
            if latest is not None:
                found[record.asset_entry.asset_key] = latest
    return found


def is_there(
    instance: dg.DagsterInstance, dataset: FoundryDataset, asset_key: dg.AssetKey, dues: Sequence[Due]
) -> dict[str, bool]:
    """Partition key → whether it has been materialized since it is due, with one look at the instance.

    A materialization of another dataset under the same key does not count.
    """
    there = {due.partition_key: False for due in dues}
    if not dues:
        return there
    filters = dg.AssetRecordsFilter(asset_key=asset_key, asset_partitions=list(there))
    since = {due.partition_key: due.since.timestamp() for due in dues}
    # The newest first. A partition that is hidden behind this many others is asked for a second time, and no more.
    for record in instance.fetch_materializations(filters, limit=100).records:
        key, metadata = record.partition_key, values_of(record.asset_materialization)
        if key is None or is_of_another(dataset, metadata.get(DECLARATION)):
            continue
        # The window says it exactly: a run may have begun with an earlier refresh of the date, and ended after this
        # one.
        window_to = metadata.get(WINDOW_TO)
        there[key] |= window_to > since[key] if isinstance(window_to, float) else record.timestamp >= since[key]
    return there


def runs_requested(
    instance: dg.DagsterInstance, dues: Iterable[tuple[dg.AssetKey, Due]]
) -> Mapping[tuple[dg.AssetKey, str], dg.DagsterRun]:
    """Asset and run key → the newest run by which a schedule or a sensor has requested a partition, with any result.

    Runs that were only created do not count: Dagster launches them if what created them names them once more. The
    instance is asked once for hundreds of partitions.
    """
    keys = {(key.to_user_string(), due.run_key): (key, due.run_key) for key, due in dues}
    run_keys = [run_key for _, run_key in keys]
    found: dict[tuple[dg.AssetKey, str], dg.DagsterRun] = {}
    for first in range(0, len(run_keys), _KEYS_AT_ONCE):
        tags = {_RUN_KEY_TAG: run_keys[first : first + _KEYS_AT_ONCE]}
        for run in instance.get_runs(dg.RunsFilter(tags=tags)):
            wanted = keys.get((run.tags.get(ASSET_TAG, ""), run.tags[_RUN_KEY_TAG]))
            if wanted is not None and run.status != dg.DagsterRunStatus.NOT_STARTED:
                found.setdefault(wanted, run)
    return found


def _refreshes(
    dataset: FoundryDataset, schedule: Schedule, now: dt.datetime, after: dt.datetime | None
) -> Iterator[Due]:
    definition = dataset.partitions_def
    delay = key_delay(definition)
    moment = now.astimezone(UTC) - schedule.buffer + _INSTANT
    if definition.end is not None:
        moment = min(moment, definition.end.astimezone(UTC))
    while True:
        refresh = schedule.last_before(moment)
        tick = tick_of(schedule, refresh, delay)
        if refresh.date() < definition.start.date() or (after is not None and tick <= after):
            return
        moment = refresh.astimezone(UTC)
        if tick <= now:
            key = refresh.date().isoformat()
            yield Due(key, schedule.available(refresh), f"{dataset.name}:{key}:{moment.isoformat()}")
            # This refresh has overtaken the earlier ones of its date.
            moment = min(moment, instant_of(zone_of(schedule.timezone), refresh.date(), dt.time()))


def _slices(dataset: FoundryDataset, schedule: Schedule, now: dt.datetime, after: dt.datetime | None) -> Iterator[Due]:
    definition, zone = dataset.partitions_def, zone_of(schedule.timezone)
    moment = now.astimezone(UTC) - schedule.buffer + _INSTANT
    if definition.end is not None:
        # The refresh on that date completes the last slice.
        moment = min(moment, definition.end.astimezone(UTC) + dt.timedelta(days=1))
    while True:
        midnight = instant_of(zone, schedule.last_before(moment).date(), dt.time())
        completing, day = schedule.first_from(midnight), schedule.last_before(midnight).date()
        tick = tick_of(schedule, completing, key_delay(definition))
        if day < definition.start.date() or (after is not None and tick <= after):
            return
        moment = midnight
        if tick <= now:
            key = day.isoformat()
            instant = completing.astimezone(UTC).isoformat()
            yield Due(key, dataset.window(key).from_dt, f"{dataset.name}:{key}:{instant}")


def _own(dataset: FoundryDataset, now: dt.datetime, after: dt.datetime | None) -> Iterator[Due]:
    definition = dataset.partitions_def
    last = None if after is None else _last_window(dataset, after)
    window = _last_window(dataset, now)
    # By timestamp: datetimes of one zone are compared by their wall clocks, also where those go back.
    while window is not None and (last is None or window.start.timestamp() > last.start.timestamp()):
        (key,) = definition.get_partition_keys_in_time_window(window)
        yield Due(key, window.start, f"{dataset.name}:{key}")
        window = _previous_window(definition, window, now)


def _last_window(dataset: FoundryDataset, now: dt.datetime) -> dg.TimeWindow | None:
    """The window of the newest partition that is due."""
    definition = dataset.partitions_def
    with dg.partition_loading_context(effective_dt=now):
        window = definition.get_last_partition_window()
    while window is not None and dataset.time is not None and window.end.timestamp() > now.timestamp():
        window = _previous_window(definition, window, now)
    return window


def _previous_window(
    definition: dg.TimeWindowPartitionsDefinition, window: dg.TimeWindow, now: dt.datetime
) -> dg.TimeWindow | None:
    with dg.partition_loading_context(effective_dt=now):
        return definition.get_prev_partition_window(window.start)
