"""Another team's code location: two ways to react to new data in partitions of `orders`.

It declares `orders` as an external asset with the same key, so the two locations meet in Dagster's asset graph and
nowhere else. Both ways react to each partition whose bytes are new, and to none that was materialized once more with
the same bytes: the data version of a partition is the SHA-256 of its snapshot.

It reads `STORE`, the directory of both locations' partitions.
"""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from fdtcc_dagster import FoundryParquetIOManager

# `end_offset=1`: the partition of a day exists from its midnight on, as upstream.
days = dg.DailyPartitionsDefinition("2024-01-01", end_offset=1)
orders = dg.AssetSpec("orders", partitions_def=days)

# The first way, and the better one: say when, and let Dagster do the rest. `since` remembers a change while a run is
# still working on the partition.
when_orders_changed = (
    dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed()).since(
        dg.AutomationCondition.newly_requested()
    )
    & ~dg.AutomationCondition.in_progress()
)


@dg.asset(ins={"orders": dg.AssetIn(orders.key)}, partitions_def=days, automation_condition=when_orders_changed)
def revenue(orders: pl.LazyFrame) -> pl.LazyFrame:
    """The sum of a day's orders."""
    return orders.select(pl.col("amount").sum())


automation = dg.AutomationConditionSensorDefinition(
    "automation",
    target=[revenue],
    minimum_interval_seconds=2,
    default_status=dg.DefaultSensorStatus.RUNNING,
    emit_backfills=False,  # a run for each partition, as of the sensor below
)

# The second way, for what a condition cannot say: a sensor. An `asset_sensor` sees only the last of several
# materializations since its last evaluation, a `multi_asset_sensor` those of all partitions.
VERSION = "orders/data_version"


@dg.asset(ins={"orders": dg.AssetIn(orders.key)}, partitions_def=days)
def largest_order(context: dg.AssetExecutionContext, orders: pl.LazyFrame) -> pl.LazyFrame:
    """The largest of a day's orders; it records from which version of them."""
    context.add_output_metadata({VERSION: context.run.tags.get(VERSION, "")})
    return orders.top_k(1, by="amount")


@dg.multi_asset_sensor(
    monitored_assets=[orders.key],
    job=dg.define_asset_job("largest_order_job", [largest_order]),
    minimum_interval_seconds=2,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def on_new_orders(context: dg.MultiAssetSensorEvaluationContext) -> Iterator[dg.RunRequest]:
    """Request `largest_order` for each partition of `orders` that is of another version than ours is made of."""
    for partition, record in context.latest_materialization_records_by_partition(orders.key).items():
        materialization = record.asset_materialization
        version = (materialization.tags or {}).get("dagster/data_version", "") if materialization else ""
        if version != used_version(context.instance, partition):
            yield dg.RunRequest(
                partition_key=partition, run_key=f"{partition}:{record.storage_id}", tags={VERSION: version}
            )
        context.advance_cursor({orders.key: record})


def used_version(instance: dg.DagsterInstance, partition: str) -> object:
    """The version of `orders` that a stored partition of `largest_order` was made of; None if there is none."""
    ours = dg.AssetRecordsFilter(largest_order.key, asset_partitions=[partition])
    for record in instance.fetch_materializations(ours, limit=1).records:
        if record.asset_materialization is not None:
            return record.asset_materialization.metadata[VERSION].value
    return None


defs = dg.Definitions(
    assets=[orders, revenue, largest_order],
    sensors=[automation, on_new_orders],
    resources={"io_manager": FoundryParquetIOManager(base_dir=dg.EnvVar("STORE"))},
)
