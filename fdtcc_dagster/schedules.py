"""Dagster schedules that request a partition in the minute in which its refresh becomes available.

A cron decides when a schedule is evaluated; the calendar decides what is requested. Dagster evaluates only the last of
the ticks that a daemon has missed, so the evaluation asks for the ones before it as well.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

import dagster as dg

from fdtcc_dagster.arguments import flag, whole_number
from fdtcc_dagster.calendar.schedule import Schedule
from fdtcc_dagster.calendar.ticks import key_delay, render_crons
from fdtcc_dagster.calendar.timezones import UTC
from fdtcc_dagster.calendar.words import in_words
from fdtcc_dagster.dagster_internals import schedule_started
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.due import Due, is_there, newest_due, next_due, runs_requested
from fdtcc_dagster.errors import ScheduleError
from fdtcc_dagster.metadata import REFRESHES
from fdtcc_dagster.names import step_name
from fdtcc_dagster.translator import FoundryDatasetTranslator, FoundryTarget, Target, targets_of

_ONE_SECOND = dt.timedelta(seconds=1)
_AT_A_TICK = 10  # partitions of one dataset; more than one only while clocks are set back
_Request = dg.RunRequest | dg.SkipReason
_Evaluation = Callable[[dg.ScheduleEvaluationContext], Iterator[_Request]]


def build_foundry_schedules(
    datasets: Iterable[FoundryTarget],
    *,
    translator: FoundryDatasetTranslator | None = None,
    shared: bool = False,
    max_catchup: int = 5,
    default_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED,
) -> list[dg.ScheduleDefinition]:
    """Make schedules that request every partition as soon as its data may be pulled.

    For a dataset with a `Schedule`, a run is requested for each refresh, in the minute of refresh + buffer. If two
    refreshes have one date, its partition is requested twice. For a dataset with its own partitions definition, a run
    is requested at the definition's cron ticks, for the partition that begins to exist there.

    A daemon that was down catches up at its first tick. It also requests the partitions that became due since the
    schedule was switched on and that were neither requested nor materialized, newest first and at most `max_catchup` of
    a dataset. `build_foundry_sensor` looks for what is missing at any time, for any reason.

    Args:
        datasets: The datasets, or the assets that `build_foundry_assets` made of them. Give the assets if they got
            other keys afterwards.
        translator: Says which asset represents a dataset, if datasets are given.
        shared: Make one schedule for all datasets with the same calendar and the same start, which requests a run for
            each of them, instead of one schedule for each dataset.
        max_catchup: How many missed partitions of a dataset a tick may request besides the new one; zero or more.
        default_status: Whether the schedules are on before somebody switches them.

    Returns:
        The schedules in the order of the datasets. They are named after the asset's key, such as
        `sales__orders_schedule` for `sales/orders`. One that several datasets share is named after their calendar, such
        as `weekly_monday_020000_1f0c2a_schedule`, so that its name stays when datasets join or leave.

    Raises:
        ScheduleError: Two datasets would share a schedule's name, or a calendar cannot be rendered.
        ValueError: `max_catchup` is negative, or `shared` is no bool.
    """
    whole_number("max_catchup", max_catchup, 0)
    flag("shared", shared)
    groups: dict[Hashable, list[Target]] = {}
    for number, (dataset, key) in enumerate(targets_of(datasets, translator)):
        # Dagster wants one partitions definition for all assets of a job.
        # A snapshot and a slice of one calendar have other partitions.
        group = (dataset.schedule, dataset.start, dataset.time is None) if shared and dataset.schedule else number
        groups.setdefault(group, []).append((dataset, key))
    schedules: dict[str, dg.ScheduleDefinition] = {}
    for targets in groups.values():
        schedule = _build(targets, max_catchup, default_status)
        if schedule.name in schedules:
            dataset, key = targets[0]
            raise ScheduleError(
                f"dataset {dataset.name!r}: there is a schedule {schedule.name!r} already; give one of the datasets "
                f"another asset_key than {key.to_user_string()!r}",
                dataset=dataset.name,
            )
        schedules[schedule.name] = schedule
    return list(schedules.values())


def _build(
    targets: Sequence[Target], max_catchup: int, default_status: dg.DefaultScheduleStatus
) -> dg.ScheduleDefinition:
    dataset, key = targets[0]
    definition, schedule = dataset.partitions_def, dataset.schedule
    if schedule is None:
        crons: tuple[str, ...] = (definition.cron_schedule,)
        when = "when its partitions definition begins to list it"
    else:
        crons = render_crons(schedule, key_delay(definition))
        when = f"as soon as its refresh may be pulled: {in_words(schedule)}"
    if schedule is None or len(targets) == 1:
        name, what = step_name(key), f"Foundry dataset {dataset.name!r}"
    else:
        name = _calendar_name(schedule, dataset)
        what = f"Foundry datasets {', '.join(repr(dataset.name) for dataset, _ in targets)}"
    name = f"{name}_schedule"
    return dg.ScheduleDefinition(
        name=name,
        target=dg.AssetSelection.assets(*(key for _, key in targets)),
        cron_schedule=list(crons),
        execution_timezone=definition.timezone,
        execution_fn=_evaluation(name, targets, max_catchup),
        default_status=default_status,
        description=f"Requests each partition of the {what} {when}.",
        metadata={} if schedule is None else {REFRESHES: in_words(schedule)},
    )


def _calendar_name(schedule: Schedule, dataset: FoundryDataset) -> str:
    parts = [[rule.cycle, rule.month, rule.day, rule.time.replace(":", "")] for rule in schedule.refreshs[:3]]
    of = f"{schedule!r} {dataset.start}{'' if dataset.time is None else ' in slices'}"
    digest = hashlib.sha256(of.encode()).hexdigest()[:6]
    words = [str(word).lower().replace("-", "last_") for part in parts for word in part if word is not None]
    return "_".join([*words, digest])


def _evaluation(name: str, targets: Sequence[Target], max_catchup: int) -> _Evaluation:
    """Evaluate a tick for some datasets with the same calendar."""

    def evaluate(context: dg.ScheduleEvaluationContext) -> Iterator[_Request]:
        # Where a context has no instance, nothing but the scheduled time counts.
        instance = None if context.instance_ref is None else context.instance
        tick = context.scheduled_execution_time.astimezone(UTC).replace(second=0, microsecond=0)
        nothing: list[Due] = []
        requests = 0
        for dataset, key in targets:
            dues = newest_due(dataset, tick, _AT_A_TICK, after=tick - _ONE_SECOND)
            if instance is not None:
                requested = runs_requested(instance, ((key, due) for due in dues))
                nothing += [due for due in dues if (key, due.run_key) in requested]
                dues = [due for due in dues if (key, due.run_key) not in requested]
                keys = {due.partition_key for due in dues}
                missed = _missed(instance, name, dataset, key, tick - _ONE_SECOND, max_catchup)
                dues += [due for due in missed if due.partition_key not in keys]
            requests += len(dues)
            yield from (due.request(key) for due in dues)
        if not requests:
            yield dg.SkipReason(_why_nothing(targets[0][0], tick, nothing))

    return evaluate


def _missed(
    instance: dg.DagsterInstance, name: str, dataset: FoundryDataset, key: dg.AssetKey, before: dt.datetime, limit: int
) -> list[Due]:
    """What earlier ticks would have requested if the daemon had been running."""
    dues = newest_due(dataset, before, limit)
    runs, there = runs_requested(instance, ((key, due) for due in dues)), is_there(instance, dataset, key, dues)
    # Behind the newest one that somebody took care of, an earlier tick has looked already.
    handled = [(key, due.run_key) in runs or there[due.partition_key] for due in dues]
    missed = dues[: handled.index(True)] if True in handled else dues
    since = _switched_on(instance, name) if missed else None
    return [] if since is None else newest_due(dataset, before, len(missed), after=since)


def _switched_on(instance: dg.DagsterInstance, name: str) -> dt.datetime | None:
    """When a schedule was switched on; None if it is off."""
    return max((dt.datetime.fromtimestamp(each, UTC) for each in schedule_started(instance, name)), default=None)


def _why_nothing(dataset: FoundryDataset, tick: dt.datetime, requested: Sequence[Due]) -> str:
    following = next_due(dataset, tick)
    moment = tick.astimezone(UTC if following is None else following.tzinfo).isoformat()
    if requested:
        why = f"Requested before: {', '.join(due.run_key for due in requested)}"
    elif following is None:
        why = f"No partition of {dataset.name!r} came into being at {moment}"
    else:
        why = f"No refresh of {dataset.name!r} with a partition became available in the minute before {moment}"
    return f"{why}." if following is None else f"{why}; the next one does at {following.isoformat()}."
