"""Each dataset as a partitioned asset."""

# No postponed annotations here: Dagster reads those of an asset's function.

from collections.abc import Iterator, Sequence

import dagster as dg
import polars as pl
from pydantic import Field

from fdtcc_dagster.arguments import instance_of, whole_number
from fdtcc_dagster.calendar.partition_mapping import inferred_mappings
from fdtcc_dagster.checks.partition_checks import evaluate_stored
from fdtcc_dagster.dagster_internals import CheckError
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import declaration_of
from fdtcc_dagster.failures import INTERRUPTS, UnlessInterrupted
from fdtcc_dagster.ingest.step import AssetEvent, Step
from fdtcc_dagster.names import pool_name, step_name
from fdtcc_dagster.resource import RESOURCE_KEY, check_container
from fdtcc_dagster.translator import FoundryDatasetTranslator, described, remember

DEFAULT_RETRY_POLICY = dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL)
"""Two more attempts of a run's step, after 30 and 60 seconds, for failures that may pass by themselves."""


class PullConfig(dg.Config):
    """The run configuration of a dataset's asset."""

    refetch: bool = Field(
        default=False,
        description="Download and store partitions again even where the container's snapshot is stored already. "
        "That is the container's version: Foundry is not asked anew where the container has one of the window. "
        "A slice may then replace a stored one that has more rows.",
    )


def build_foundry_assets(
    datasets: Sequence[FoundryDataset],
    *,
    translator: FoundryDatasetTranslator | None = None,
    resource_key: str = RESOURCE_KEY,
    io_manager_key: str = "io_manager",
    max_partitions_per_run: int | None = None,
    pool: str | None = None,
    retry_policy: dg.RetryPolicy | None = DEFAULT_RETRY_POLICY,
) -> list[dg.AssetsDefinition]:
    """Make an asset from each dataset.

    A partition of such an asset is a refresh of the dataset. Materializing it pulls the snapshot of the partition's
    window from the container and verifies it. `FoundryParquetIOManager` stores the rows while they arrive; if it has
    the partition of that snapshot already, nothing is downloaded or stored, unless the run is configured to `refetch`.
    Any other IO manager gets the rows of the complete snapshot as a `polars.LazyFrame`. The partition's `DataVersion`
    is the snapshot's SHA-256. The asset's `code_version` is a digest of what decides the rows of its partitions, so
    Dagster shows partitions that were stored for another declaration as stale; a `code_version` of the translator is
    kept.

    A backfill of many partitions is one run. It pulls up to `max_concurrency` of the resource at a time, and stores and
    records each partition as soon as it is complete. If some fail, the others are stored, and the run fails and names
    the failed ones. This needs an IO manager that stores several partitions in one run, such as
    `FoundryParquetIOManager`; for others set `max_partitions_per_run=1`.

    Args:
        datasets: The datasets. The assets need the container as a resource.
        translator: Gives the assets' keys, groups, tags and so on.
        resource_key: The resource key of the container, a `FoundryContainerResource`. Each of several containers has
            its own.
        io_manager_key: The resource key of `FoundryParquetIOManager`, of another
            `fdtcc_dagster.storing.StoresPartitions`, or of any IO manager that stores LazyFrames. The last must store
            the rows while it handles the output: their file is removed when the step ends.
        max_partitions_per_run: How many partitions of a backfill share a run; None: all of them.
        pool: The Dagster pool of the assets' steps, which limits how many of them run at a time in all runs; or
            `"per_dataset"`, a pool `foundry_<name>` for each Foundry dataset. See docs/scaling.md.
        retry_policy: When a step is retried. Failures that cannot pass by themselves are not retried, and neither is a
            run that is terminated.

    Returns:
        The assets, in the order of the datasets.

    Raises:
        ValueError: An argument is not valid, two datasets have the same asset key, or a part of a key cannot be the
            name of a directory.
    """
    if max_partitions_per_run is not None:
        whole_number("max_partitions_per_run", max_partitions_per_run, 1)
    if retry_policy is not None:
        instance_of("retry_policy", retry_policy, dg.RetryPolicy, "dagster.RetryPolicy")
    return [
        _build_asset(dataset, spec, resource_key, io_manager_key, max_partitions_per_run, pool, retry_policy)
        for dataset, spec in described(datasets, translator)
    ]


def _build_asset(
    dataset: FoundryDataset,
    spec: dg.AssetSpec,
    resource_key: str,
    io_manager_key: str,
    max_partitions_per_run: int | None,
    pool: str | None,
    retry_policy: dg.RetryPolicy | None,
) -> dg.AssetsDefinition:
    if retry_policy is not None:
        retry_policy = UnlessInterrupted.of(retry_policy)
    backfill_policy = (
        dg.BackfillPolicy.single_run()
        if max_partitions_per_run is None
        else dg.BackfillPolicy.multi_run(max_partitions_per_run)
    )

    @dg.multi_asset(
        name=step_name(spec.key),
        outs={
            "result": dg.AssetOut.from_spec(
                spec.replace_attributes(deps=[], code_version=spec.code_version or declaration_of(dataset).digest),
                dagster_type=pl.LazyFrame,
                io_manager_key=io_manager_key,
                backfill_policy=backfill_policy,
            )
        },
        # Not as `deps`: Dagster 1.12 makes names of inputs of their keys, which Foundry's names may not fit.
        ins={
            f"upstream_{number}": dg.AssetIn(
                dep.asset_key, partition_mapping=dep.partition_mapping, dagster_type=dg.Nothing
            )
            for number, dep in enumerate(spec.deps)
        },
        partitions_def=dataset.partitions_def,
        backfill_policy=backfill_policy,
        required_resource_keys={resource_key, io_manager_key},
        pool=pool_name(dataset.name) if pool == "per_dataset" else pool,
        retry_policy=retry_policy,
    )
    def pull_partitions(context: dg.AssetExecutionContext, config: PullConfig) -> Iterator[AssetEvent]:
        container, io_manager = (getattr(context.resources, key) for key in (resource_key, io_manager_key))
        check_container(dataset.name, container, resource_key)
        try:
            yield from Step(dataset, context, container, io_manager, config.refetch).run()
        except dg.Failure as failure:
            # Who terminates a run wants it to end.
            if not isinstance(failure.__cause__, INTERRUPTS):
                evaluate_stored(context)
            raise
        # Only now: a wrong declaration is no reason to miss a partition.
        _refuse_inferred_mappings(context)

    remember(pull_partitions, dataset)
    return pull_partitions


def _refuse_inferred_mappings(context: dg.AssetExecutionContext) -> None:
    """Fail for assets of which the daemon and the webserver plan too few partitions, which these cannot detect."""
    try:
        graph = context.repository_def.asset_graph
    except CheckError:  # outside a code location, as in `dg.materialize`, there is no daemon either
        return
    if found := inferred_mappings(graph, context.asset_key):
        named = "; ".join(f"{downstream}: downstream of {upstream}" for downstream, upstream in found)
        raise dg.Failure(
            f"The partitions of this run are stored, but {named}: no cron can say the calendar of one of the two, and "
            "backfills and conditions that Dagster's daemon evaluates take too few partitions. Name a "
            "RefreshPartitionMapping in the AssetDep or AssetIn; see docs/automation.md",
            allow_retries=False,
        )
