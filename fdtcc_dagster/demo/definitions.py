"""The code location: what `workspace.yaml` loads. Loading it reads no data and starts no container."""

# No postponed annotations here: Dagster reads those of an asset's function.

import dagster as dg
import polars as pl

from fdtcc_dagster.definitions import IO_MANAGER_KEY, build_foundry_definitions
from fdtcc_dagster.demo.container import SandboxContainerResource, versions_directory
from fdtcc_dagster.demo.datasets import demo_datasets, demo_slices
from fdtcc_dagster.translator import FoundryDatasetTranslator

datasets = demo_datasets()
slices = demo_slices()


class _FromFoundry(FoundryDatasetTranslator):
    """Lineage begins in Foundry."""

    upstream = True


@dg.asset(
    partitions_def=datasets[0].partitions_def,
    group_name="nycflights",
    owners=["team:punctuality"],
    kinds={"polars", "parquet"},
    io_manager_key=IO_MANAGER_KEY,
    ins={"flights": dg.AssetIn(input_manager_key=IO_MANAGER_KEY)},
    automation_condition=dg.AutomationCondition.eager(),
)
def delays(context: dg.AssetExecutionContext, flights: pl.LazyFrame) -> pl.DataFrame:
    """How late departures were, by airline: an asset that follows the partitions of `flights`."""
    delay = pl.col("dep_delay")
    by_carrier = (
        flights.drop_nulls("dep_delay")
        .group_by("carrier")
        .agg(
            pl.len().alias("departures"), delay.mean().round(1).alias("minutes"), (delay > 60).sum().alias("hour_late")
        )
        .sort("minutes", descending=True)
        .collect()
    )
    context.add_output_metadata({"worst": by_carrier["carrier"][0], "worst_minutes": float(by_carrier["minutes"][0])})
    return by_carrier


defs = dg.Definitions.merge(
    build_foundry_definitions(
        [*datasets, slices],
        resource=SandboxContainerResource(host="127.0.0.1", versions=str(versions_directory())),
        translator=_FromFoundry(),
        checks=True,
    ),
    dg.Definitions(assets=[delays]),
)
