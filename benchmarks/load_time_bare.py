"""A code location of bare Dagster: 300 daily partitioned assets with schedules, or with LOAD_TIME=all with all else."""

import datetime as dt
import os
from collections.abc import Iterator
from typing import Any

import dagster as dg

DATASETS = int(os.environ.get("LOAD_TIME_DATASETS", "300"))
START = os.environ.get("LOAD_TIME_BARE_START", "2020-01-01")
KIND = {"foundry", "parquet"}


def _asset(number: int, condition: dg.AutomationCondition[Any] | None = None) -> dg.AssetsDefinition:
    @dg.asset(
        name=f"dataset_{number}",
        partitions_def=dg.DailyPartitionsDefinition(start_date=START, end_offset=1),
        description=f"The dataset {number}.",
        kinds=KIND,
        retry_policy=dg.RetryPolicy(max_retries=2),
        required_resource_keys={"container"},
        automation_condition=condition,
    )
    def stored() -> None: ...

    return stored


def _schedule(number: int) -> dg.ScheduleDefinition:
    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        key = (context.scheduled_execution_time - dt.timedelta(hours=4)).strftime("%Y-%m-%d")
        return dg.RunRequest(run_key=key, partition_key=key)

    return dg.ScheduleDefinition(
        name=f"dataset_{number}_schedule",
        target=dg.AssetSelection.assets(f"dataset_{number}"),
        cron_schedule=f"{number % 60} 4 * * *",
        execution_fn=evaluate,
    )


def _checks(number: int) -> dg.AssetChecksDefinition:
    specs = [dg.AssetCheckSpec(f"check_{which}", asset=f"dataset_{number}") for which in range(5)]

    @dg.multi_asset_check(name=f"checks_{number}", specs=specs, can_subset=True)
    def check() -> Iterator[dg.AssetCheckResult]:
        yield from ()

    return check


_KEYS = [dg.AssetKey(f"dataset_{number}") for number in range(DATASETS)]


@dg.sensor(name="sensor", asset_selection=dg.AssetSelection.assets(*_KEYS))
def _sensor(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request up to ten of the last three days that are missing, as one would write it by hand."""
    today = dt.datetime.now(dt.timezone.utc).date()
    days = [(today - dt.timedelta(days=back)).isoformat() for back in range(3)]
    there = {key: context.instance.get_materialized_partitions(key) for key in _KEYS}
    missing = [(key, day) for day in days for key in _KEYS if day not in there[key]]
    for key, day in missing[:10]:
        yield dg.RunRequest(f"{key.to_user_string()}:{day}", partition_key=day, asset_selection=[key])
    if not missing:
        yield dg.SkipReason("nothing is missing")


RESOURCES = {"container": dg.ResourceDefinition.none_resource(), "io_manager": dg.fs_io_manager}


def _with_schedules() -> dg.Definitions:
    return dg.Definitions(
        assets=[_asset(number) for number in range(DATASETS)],
        schedules=[_schedule(number) for number in range(DATASETS)],
        resources=RESOURCES,
    )


def _with_all_else() -> dg.Definitions:
    conditions = [dg.AutomationCondition.on_cron(f"{number % 60} 4 * * *") for number in range(DATASETS)]
    return dg.Definitions(
        assets=[_asset(number, condition) for number, condition in enumerate(conditions)],
        asset_checks=[_checks(number) for number in range(DATASETS)],
        sensors=[_sensor],
        resources=RESOURCES,
    )


defs = _with_all_else() if os.environ.get("LOAD_TIME") == "all" else _with_schedules()
