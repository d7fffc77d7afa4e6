"""A code location of bare Dagster: 300 daily partitioned assets, each with a schedule."""

import datetime as dt

import dagster as dg

DATASETS = 300
KIND = {"foundry", "polars"}


def _asset(number: int) -> dg.AssetsDefinition:
    @dg.asset(
        name=f"dataset_{number}",
        partitions_def=dg.DailyPartitionsDefinition(start_date="2020-01-01", end_offset=1),
        description=f"The dataset {number}.",
        kinds=KIND,
        retry_policy=dg.RetryPolicy(max_retries=2),
        required_resource_keys={"container"},
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


defs = dg.Definitions(
    assets=[_asset(number) for number in range(DATASETS)],
    schedules=[_schedule(number) for number in range(DATASETS)],
    resources={"container": dg.ResourceDefinition.none_resource(), "io_manager": dg.fs_io_manager},
)
