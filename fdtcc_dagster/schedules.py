"""Dagster schedules that request a partition in the minute in which its refresh becomes available.

Cron cannot say every calendar, and a buffer moves a refresh across midnights, month ends and changes of the clocks. So
the crons are found for the calendar's own instants and compared with them for the years to come. They may tick too
often but never miss a refresh; at each tick the calendar decides.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import dagster as dg

from fdtcc_dagster.client.errors import ScheduleError
from fdtcc_dagster.cron import DayCron, fit, years_between
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.localtime import UTC, dagster_zone, instant_of, is_repeated
from fdtcc_dagster.schedule import Schedule
from fdtcc_dagster.translator import FoundryDatasetTranslator

_YEARS = (2024, 2037)  # pytz knows no change of the clocks after that
_ONE_MINUTE, _ONE_DAY, _ONE_SECOND = dt.timedelta(minutes=1), dt.timedelta(days=1), dt.timedelta(seconds=1)
_Request = dg.RunRequest | dg.SkipReason
_Evaluation = Callable[[dg.ScheduleEvaluationContext], Iterator[_Request]]


def build_foundry_schedules(
    datasets: Iterable[FoundryDataset], *, translator: FoundryDatasetTranslator | None = None
) -> list[dg.ScheduleDefinition]:
    """One schedule for each dataset, which requests every partition as soon as its data may be pulled.

    For a dataset with a `Schedule`, a run is requested for each refresh, in the minute in which refresh + buffer has
    come; where two refreshes share a date, its partition is requested twice. For a dataset with a partitions definition
    of its own, a run is requested at the definition's cron ticks, for the partition that came into being there.
    Evaluation depends on the scheduled time only, so ticks that are made up for later request the same runs.

    Args:
        datasets: The datasets.
        translator: Says which asset represents a dataset.

    Returns:
        The schedules in the order of the datasets, stopped by default, and named after the asset's key:
        `sales__orders_schedule` for `sales/orders`.

    Raises:
        ScheduleError: Two datasets would share a schedule's name, or a calendar cannot be rendered.
    """
    translator = translator or FoundryDatasetTranslator()
    schedules: dict[str, dg.ScheduleDefinition] = {}
    for dataset in datasets:
        key = translator.get_asset_spec(dataset).key
        schedule = _build(dataset, key)
        if schedule.name in schedules:
            raise ScheduleError(
                f"dataset {dataset.name!r}: there is a schedule {schedule.name!r} already; give one of the datasets "
                f"another asset_key than {key.to_user_string()!r}",
                dataset=dataset.name,
            )
        schedules[schedule.name] = schedule
    return list(schedules.values())


def _build(dataset: FoundryDataset, key: dg.AssetKey) -> dg.ScheduleDefinition:
    definition = dataset.partitions_def
    crons: tuple[str, ...] = (definition.cron_schedule,)
    when = "when its partitions definition begins to list it"
    if dataset.schedule is not None:
        crons, when = render_crons(dataset.schedule, _delay(dataset)), "as soon as its refresh may be pulled"
    return dg.ScheduleDefinition(
        name=re.sub(r"[^A-Za-z0-9_]", "_", "__".join(key.path)) + "_schedule",
        target=dg.AssetSelection.assets(key),
        cron_schedule=list(crons),
        execution_timezone=definition.timezone,
        execution_fn=_newest_partition(dataset) if dataset.schedule is None else _refreshes(dataset, dataset.schedule),
        description=f"Requests each partition of the Foundry dataset {dataset.name!r} {when}.",
    )


def _refreshes(dataset: FoundryDataset, schedule: Schedule) -> _Evaluation:
    """Evaluate a tick for a dataset with a calendar."""
    delay = _delay(dataset)

    def evaluate(context: dg.ScheduleEvaluationContext) -> Iterator[_Request]:
        tick = context.scheduled_execution_time.astimezone(UTC).replace(second=0, microsecond=0)
        latest = tick - schedule.buffer
        requests = [
            dg.RunRequest(
                partition_key=refresh.date().isoformat(),
                run_key=f"{dataset.name}:{refresh.date()}:{refresh.astimezone(UTC).isoformat()}",
            )
            for refresh in schedule.refreshes(latest - _ONE_DAY, latest + _ONE_SECOND)
            if tick_of(schedule, refresh, delay) == tick and _has_partition(dataset, refresh.date())
        ]
        yield from requests
        if not requests:
            following = schedule.get_next_refresh(tick)
            yield dg.SkipReason(
                f"No refresh of {dataset.name!r} with a partition became available in the minute before "
                f"{tick.astimezone(following.tzinfo).isoformat()}; the next one does at {following.isoformat()}."
            )

    return evaluate


def _newest_partition(dataset: FoundryDataset) -> _Evaluation:
    """Evaluate a tick for a dataset with a partitions definition of its own."""

    def evaluate(context: dg.ScheduleEvaluationContext) -> Iterator[_Request]:
        tick = context.scheduled_execution_time.astimezone(UTC)
        key = _last_key(dataset, tick)
        if key is None or key == _last_key(dataset, tick - _ONE_SECOND):
            yield dg.SkipReason(f"No partition of {dataset.name!r} came into being at {tick.isoformat()}.")
        else:
            yield dg.RunRequest(partition_key=key, run_key=f"{dataset.name}:{key}")

    return evaluate


def _last_key(dataset: FoundryDataset, now: dt.datetime) -> str | None:
    with dg.partition_loading_context(effective_dt=now):
        return dataset.partitions_def.get_last_partition_key()


def _has_partition(dataset: FoundryDataset, day: dt.date) -> bool:
    definition = dataset.partitions_def
    return definition.start.date() <= day and (definition.end is None or day < definition.end.date())


def _delay(dataset: FoundryDataset) -> dt.timedelta:
    """How long after midnight a partition's key comes into being; see `build_partitions_def`."""
    return _ONE_MINUTE if dataset.partitions_def.exclusions else dt.timedelta(0)


def tick_of(schedule: Schedule, refresh: dt.datetime, delay: dt.timedelta = dt.timedelta(0)) -> dt.datetime:
    """The tick at which a refresh is requested.

    Args:
        schedule: The calendar.
        refresh: A refresh of it, without the buffer.
        delay: How long after midnight the partition's key comes into being.

    Returns:
        The first minute, in the schedule's zone, at which the refresh is available and its key exists. While clocks
        repeat an hour, it is the end of that hour: a cron cannot tell the first pass from the second.
    """
    zone = dagster_zone(schedule.timezone)
    key_exists = instant_of(zone, refresh.date(), dt.time()) + delay
    due = max(refresh.astimezone(UTC) + schedule.buffer, key_exists)
    tick = due.replace(second=0, microsecond=0)
    if tick < due:
        tick += _ONE_MINUTE
    while is_repeated(zone, (local := tick.astimezone(zone)).date(), local.time()):
        tick += _ONE_MINUTE
    return local


@lru_cache(maxsize=1024)
def render_crons(schedule: Schedule, delay: dt.timedelta = dt.timedelta(0)) -> tuple[str, ...]:
    """The crons that tick in the minute in which each refresh of a calendar becomes available.

    Each rule becomes one cron where that is possible. Around changes of the clocks, the buffer leads to other times of
    day than usual, which get crons of their own.

    Args:
        schedule: The calendar.
        delay: The earliest time after midnight.

    Returns:
        The crons, to be read in the schedule's zone. Seconds are rounded up to the next minute.

    Raises:
        ScheduleError: A refresh from 2024 to 2037 would be missed.
    """
    years = years_between(*_YEARS)
    crons: dict[dt.time, set[DayCron]] = defaultdict(set)
    rendered: dict[str, None] = {}
    ticks: list[dt.datetime] = []
    for rule in schedule.refreshs:
        days_at: dict[dt.time, set[dt.date]] = defaultdict(set)
        for tick in _ticks(Schedule([rule], schedule.buffer, schedule.timezone), delay):
            ticks.append(tick)
            days_at[tick.time()].add(tick.date())
        for clock, days in sorted(days_at.items(), key=lambda group: (-len(group[1]), group[0])):
            cron = fit(frozenset(days), years)
            crons[clock].add(cron)
            rendered[cron.render(str(clock.minute), str(clock.hour))] = None
    for tick in ticks:
        if not any(cron.matches(tick.date()) for cron in crons[tick.time()]):
            raise ScheduleError(f"the crons {list(rendered)} of {schedule!r} do not tick at {tick.isoformat()}")
    return tuple(rendered)


def _ticks(schedule: Schedule, delay: dt.timedelta) -> Iterator[dt.datetime]:
    first, end = (dt.datetime(year, 1, 1, tzinfo=UTC) - schedule.buffer for year in (_YEARS[0], _YEARS[1] + 1))
    for refresh in schedule.refreshes(first - 2 * _ONE_DAY, end + 2 * _ONE_DAY):
        tick = tick_of(schedule, refresh, delay)
        if _YEARS[0] <= tick.year <= _YEARS[1]:
            yield tick
