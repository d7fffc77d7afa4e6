"""A sensor that looks for available partitions that are missing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence

import dagster as dg

from fdtcc_dagster.arguments import flag, whole_number
from fdtcc_dagster.calendar.timezones import UTC
from fdtcc_dagster.checks.redeclared import redeclared_dues
from fdtcc_dagster.dagster_internals import NOT_FINISHED_STATUSES
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.due import Due, is_there, latest_records, newest_due, next_due, runs_requested
from fdtcc_dagster.metadata import first_and_last
from fdtcc_dagster.redaction import counted
from fdtcc_dagster.translator import FoundryDatasetTranslator, FoundryTarget, Target, check_assets_exist, targets_of

_SENSOR_TAG = "dagster/sensor_name"
_LOOKBACK = 3
_Missing = tuple[dg.AssetKey, Due, dg.TimeWindowPartitionsDefinition]


def build_foundry_sensor(
    datasets: Iterable[FoundryTarget],
    *,
    translator: FoundryDatasetTranslator | None = None,
    name: str = "foundry_sensor",
    lookback: int | None = None,
    max_runs: int = 10,
    redeclared: bool = False,
    minimum_interval_seconds: int = 60,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> dg.SensorDefinition:
    """Make a sensor that requests available refreshes which nobody has materialized.

    At each evaluation it takes the newest partitions of each dataset that could be there by now. It leaves out those
    that have been materialized since their refresh became available, those that a run is working on, and those that
    have been requested before. So each refresh is requested once, by the schedules or by the sensor. If a run failed,
    retries are up to the run's retry policy and to people. A past refresh that nobody pulled in time has no version any
    more, and its run would fail with `NoVersionInWindowError`. So by default, a snapshot whose window is over is not
    requested, neither later nor between the next refresh and the end of its buffer.

    The sensor works together with schedules, as a safety net, and without them.

    Args:
        datasets: The datasets, or the assets that `build_foundry_assets` made of them. Give the assets if they got
            other keys afterwards.
        translator: Says which asset represents a dataset, if datasets are given.
        name: The sensor's name.
        lookback: How many partitions of each dataset it looks at: the newest ones that are due; one or more. By default
            three, without snapshots whose window is over, unless the dataset has `missing_version="accept"`. A number
            includes these, for datasets that others pull, too: the container may have their versions; but not with one.
        max_runs: How many runs of the sensor may be queued or running at a time; one or more. So the sensor never
            floods, whatever is missing: the newest refreshes of all datasets come first, the others when runs have
            finished.
        redeclared: Whether a stored partition also counts as missing if it does not fit the dataset as it is declared
            now, as the check `foundry_declaration` says. It is requested once for each declaration.
        minimum_interval_seconds: The seconds between two evaluations.
        default_status: Whether the sensor is on before somebody switches it.

    Returns:
        The sensor.

    Raises:
        ValueError: `lookback` or `max_runs` is less than one, `redeclared` is no bool, or there are no datasets.
    """
    if lookback is not None:
        whole_number("lookback", lookback, 1)
    whole_number("max_runs", max_runs, 1)
    flag("redeclared", redeclared)
    targets = targets_of(datasets, translator)
    if not targets:
        raise ValueError(f"the sensor {name!r} needs at least one dataset")
    search = _Search(targets, lookback, redeclared=redeclared)

    @dg.sensor(
        name=name,
        # Not `target`, which wants one partitions definition for all assets.
        asset_selection=dg.AssetSelection.assets(*(key for _, key in targets)),
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        description="Requests available refreshes of Foundry datasets that have not been materialized.",
    )
    def foundry_sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        check_assets_exist(context.repository_def, targets)
        now = dt.datetime.now(UTC)
        unfinished = context.instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
        free = max_runs - sum(run.tags.get(_SENSOR_TAG) == name for run in unfinished)
        if free <= 0:
            yield dg.SkipReason(
                f"Queued or running: {counted(max_runs - free, 'run')} of {name}; {max_runs} at a time may be."
            )
            return
        missing = search.missing(context.instance, now)
        requests = 0
        for asset_key, due, partitions_def in missing:
            if requests >= free:
                break
            if not any(_works_on(context.instance, run, asset_key, due, partitions_def) for run in unfinished):
                requests += 1
                yield due.request(asset_key)
        if not missing:
            yield dg.SkipReason(_why_nothing([dataset for dataset, _ in targets], now, search.over))
        elif not requests:
            yield dg.SkipReason(f"Runs are working on all that is missing: {counted(len(missing), 'partition')}.")

    return foundry_sensor


class _Search:
    """Looks for what is missing, with few queries: of a dataset, the event log is read when that may have changed.

    Args:
        targets: The datasets and their assets.
        lookback: How many partitions of each are looked at; see `build_foundry_sensor`.
        redeclared: Whether those that do not fit the present declaration count as missing.

    Attributes:
        over: How many were left out at the last search, because their window is over.
    """

    def __init__(self, targets: Sequence[Target], lookback: int | None, *, redeclared: bool) -> None:
        self._targets, self._lookback, self._redeclared = targets, lookback or _LOOKBACK, redeclared
        self._past_too = lookback is not None and lookback > 1
        self._read: dict[dg.AssetKey, tuple[object, list[Due], list[Due]]] = {}
        self.over = 0

    def missing(self, instance: dg.DagsterInstance, now: dt.datetime) -> list[_Missing]:
        """What is missing and was never requested: the newest of each dataset first, then what has waited longest."""
        latest = latest_records(instance, [key for _, key in self._targets])
        found: list[tuple[int, float, _Missing]] = []
        self.over = 0
        for dataset, key in self._targets:
            dues = newest_due(dataset, now, self._lookback)
            order = [due.partition_key for due in dues]
            absent, redeclared = self._look(instance, dataset, key, dues, latest.get(key))
            # With "accept", today's data are wanted in their place.
            if not self._past_too and (self._lookback == 1 or dataset.missing_version == "raise"):
                present = [due for due in absent if not _is_over(dataset, due, now)]
                self.over += len(absent) - len(present)
                absent = present
            for due in absent + redeclared:
                missing = (key, due, dataset.partitions_def)
                found.append((order.index(due.partition_key), due.since.timestamp(), missing))
        requested = runs_requested(instance, ((key, due) for *_, (key, due, _) in found))
        found = [each for each in found if (each[2][0], each[2][1].run_key) not in requested]
        return [missing for *_, missing in sorted(found, key=lambda each: each[:2])]

    def _look(
        self,
        instance: dg.DagsterInstance,
        dataset: FoundryDataset,
        key: dg.AssetKey,
        dues: Sequence[Due],
        latest: dg.EventLogRecord | None,
    ) -> tuple[list[Due], list[Due]]:
        """Those that are not there, and those that are there for another declaration."""
        if latest is None:
            return list(dues), []
        # Storage ids alone would be the same in another instance.
        seen = (latest.storage_id, latest.run_id, latest.timestamp, dues)
        if key not in self._read or self._read[key][0] != seen:
            there = is_there(instance, dataset, key, dues)
            absent, stored = (
                [due for due in dues if there[due.partition_key] is is_stored] for is_stored in (False, True)
            )
            redeclared = redeclared_dues(instance, dataset, key, stored) if self._redeclared else []
            self._read[key] = (seen, absent, redeclared)
        return self._read[key][1:]


def _is_over(dataset: FoundryDataset, due: Due, now: dt.datetime) -> bool:
    """Tell whether the window of a snapshot is over: it can no longer be pulled."""
    if dataset.schedule is None or dataset.time is not None:
        return False
    return not dataset.window(due.partition_key, now).contains(now)


def _works_on(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    asset_key: dg.AssetKey,
    due: Due,
    partitions_def: dg.TimeWindowPartitionsDefinition,
) -> bool:
    """Tell whether a run, of any origin, is going to materialize a partition."""
    if run.asset_selection is not None and asset_key not in run.asset_selection:
        return False
    bounds = first_and_last(run.tags)
    if bounds is None or not _lies_between(partitions_def, bounds[0], due.partition_key, bounds[1]):
        return False
    if run.asset_selection is not None:
        return True
    # A job names no assets, but its run has planned them.
    planned = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    return any(record.asset_key == asset_key for record in planned.records)


def _lies_between(partitions_def: dg.TimeWindowPartitionsDefinition, first: str, key: str, last: str) -> bool:
    if key in (first, last):
        return True
    try:
        windows = [partitions_def.time_window_for_partition_key(each) for each in (first, key, last)]
    except (ValueError, TypeError):  # keys of another kind of partitions
        return False
    begins = [window.start.timestamp() for window in windows]
    return begins == sorted(begins)


def _why_nothing(datasets: Sequence[FoundryDataset], now: dt.datetime, over: int) -> str:
    dues = [(next_due(dataset, now), dataset.name) for dataset in datasets]
    following = [(instant, instant.timestamp(), name) for instant, name in dues if instant is not None]
    why = "All partitions that are due are there, or have been requested"
    if over:
        why += f", but for {counted(over, 'snapshot')} whose window is over"
    if not following:
        return f"{why}."
    instant, _, name = min(following, key=lambda each: each[1:])
    return f"{why}; the next refresh, of {name!r}, becomes available at {instant.isoformat()}."
