"""What a run of an asset does: pull its partitions, have them stored, and record each of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import dagster as dg
import polars as pl

from fdtcc_dagster.client import Snapshot
from fdtcc_dagster.client.errors import FdtccError
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.failures import failure, interrupts_end_the_run, may_pass
from fdtcc_dagster.fanout import Received, Said, pull_each
from fdtcc_dagster.metadata import snapshot_metadata
from fdtcc_dagster.partition_rows import PartitionRows
from fdtcc_dagster.progress import PullLog
from fdtcc_dagster.resource import FoundryContainerResource

AssetEvent = dg.Output[pl.LazyFrame] | dg.AssetMaterialization

# The key by which Dagster's converted source assets say that their events are logged already; not public.
_EVENTS_ARE_LOGGED = "__source_asset_observation__"

STORED = pl.LazyFrame()
"""The output of a run of several partitions: they are stored already."""


@runtime_checkable
class StoresPartitions(Protocol):
    """An IO manager that stores partitions one by one, outside of an output."""

    def store_partition(self, asset_key: dg.AssetKey, partition_key: str, frame: pl.LazyFrame) -> Mapping[str, Any]:
        """Store one partition.

        Args:
            asset_key: The asset.
            partition_key: The partition.
            frame: Its rows.

        Returns:
            Metadata of what was stored.
        """
        ...


class PartitionsRun:
    """One run of one dataset's asset.

    Args:
        dataset: The dataset.
        asset_key: The key of its asset.
        context: Dagster's context of the step.
        container: The resource.
    """

    def __init__(
        self,
        dataset: FoundryDataset,
        asset_key: dg.AssetKey,
        context: dg.AssetExecutionContext,
        container: FoundryContainerResource,
    ) -> None:
        self._dataset = dataset
        self._asset_key = asset_key
        self._context = context
        self._container = container
        self._rows = PartitionRows(dataset, container, context.log)

    def materialize_one(self, key: str) -> Iterator[AssetEvent]:
        """Pull one partition and leave it to the asset's IO manager, whichever that is.

        Args:
            key: The partition key.

        Yields:
            The output: the rows, and what is known of them.

        Raises:
            dagster.Failure: There is no snapshot; its cause is the client's error.
        """
        # The IO manager reads the spooled file after the yield, and this function goes on when it has stored the rows.
        with interrupts_end_the_run(self._retry_policy), self._container.spool() as spool:
            try:
                rows, metadata, sha256 = self._rows.of(key, spool)
            except (FdtccError, ValueError) as error:
                raise failure(error) from error
            yield _output(rows, metadata, sha256)

    def materialize_each(self, keys: Sequence[str], io_manager: object) -> Iterator[AssetEvent]:
        """Pull several partitions, and store and record each of them as soon as it has arrived.

        Args:
            keys: The partition keys.
            io_manager: The asset's IO manager.

        Yields:
            A materialization for each partition that is stored, and at last an output with nothing more to store.

        Raises:
            dagster.Failure: The IO manager stores one partition per run only; or some partitions failed, which are
                named with their causes. All others are stored and recorded.
        """
        if not isinstance(io_manager, StoresPartitions):
            raise dg.Failure(
                f"{type(io_manager).__name__} stores one partition per run, but this run has {len(keys)}: set "
                "max_partitions_per_run=1, or use FoundryParquetIOManager",
                allow_retries=False,
            )
        left = [key for key in keys if key not in self._recorded_before()]
        failures: dict[str, Exception] = {}
        with interrupts_end_the_run(self._retry_policy), self._container.spool() as spool:
            store_each = self._store_snapshots if self._dataset.time is None else self._store_slices
            yield from store_each(left, io_manager, spool, failures)
        if failures:
            raise self._partial_failure(len(keys), failures)
        # Each partition is recorded already, with a data version of its own; Dagster would record all of them once
        # more, with one data version for all. What depends on the asset in this run needs an output all the same.
        yield dg.Output(STORED, metadata={_EVENTS_ARE_LOGGED: True})

    def _store_slices(
        self,
        keys: Sequence[str],
        io_manager: StoresPartitions,
        spool: Path,
        failures: dict[str, Exception],
    ) -> Iterator[dg.AssetMaterialization]:
        failures.update(self._rows.not_complete(keys))
        complete = [key for key in keys if key not in failures]
        try:
            cut = self._rows.slices(complete, spool) if complete else None
        except Exception as error:  # noqa: BLE001 (it is reported for each of the slices)
            failures.update(dict.fromkeys(complete, error))
            return
        for key in complete:
            assert cut is not None  # noqa: S101  there are complete ones
            rows, metadata, sha256 = cut(key)
            try:
                yield self._recorded(key, metadata, io_manager.store_partition(self._asset_key, key, rows), sha256)
            except Exception as error:  # noqa: BLE001 (whatever befalls one partition, the others are stored)
                failures[key] = error

    def _store_snapshots(
        self,
        keys: Sequence[str],
        io_manager: StoresPartitions,
        spool: Path,
        failures: dict[str, Exception],
    ) -> Iterator[dg.AssetMaterialization]:
        windows = {key: self._dataset.window(key) for key in keys}
        logs = {key: PullLog(self._context.log, f"{key}: ") for key in keys}
        self._context.log.info(f"Pulling {len(keys)} partitions of {self._dataset.name!r}")
        with pull_each(
            self._container.get_client(),
            self._dataset.name,
            windows,
            spool=spool,
            limit=self._container.max_concurrency,
            transport=self._container.transport,
            missing_version=self._dataset.missing_version,
        ) as pulls:
            for item in pulls:
                if isinstance(item, Said):
                    logs[item.key].message(item.message)
                    continue
                if isinstance(item, Received):
                    logs[item.key].progress(item.size_bytes)
                    continue
                try:
                    if not isinstance(item.outcome, Snapshot):
                        raise item.outcome
                    yield self._stored(item.key, item.outcome, io_manager)
                except Exception as error:  # noqa: BLE001 (whatever befalls one partition, the others are stored)
                    self._context.log.error(f"{item.key}: {error}")
                    failures[item.key] = error
                item.handled()
            pulls.result()

    def _stored(self, key: str, snapshot: Snapshot, io_manager: StoresPartitions) -> dg.AssetMaterialization:
        rows = snapshot.scan(self._dataset.schema)
        stored = io_manager.store_partition(self._asset_key, key, rows)
        return self._recorded(key, snapshot_metadata(snapshot, rows.collect_schema()), stored, snapshot.sha256)

    def _recorded(
        self, key: str, metadata: Mapping[str, Any], stored: Mapping[str, Any], sha256: str
    ) -> dg.AssetMaterialization:
        tags = {"dagster/data_version": sha256}
        backfill = self._context.run.tags.get("dagster/backfill")
        return dg.AssetMaterialization(
            asset_key=self._asset_key,
            partition=key,
            metadata={**metadata, **stored},
            tags=tags if backfill is None else {**tags, "dagster/backfill": backfill},
        )

    def _recorded_before(self) -> set[str]:
        """The partitions that an earlier attempt of this step has recorded."""
        if self._context.retry_number == 0:
            return set()
        records = self._context.instance.get_records_for_run(
            self._context.run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
        materializations = [record.asset_materialization for record in records]
        return {m.partition for m in materializations if m and m.asset_key == self._asset_key and m.partition}

    def _retry_policy(self) -> dg.RetryPolicy | None:
        policy: dg.RetryPolicy | None = self._context.get_step_execution_context().op_retry_policy
        return policy

    def _partial_failure(self, asked: int, failures: Mapping[str, Exception]) -> dg.Failure:
        lines = [f"{key}: {type(error).__name__}: {error}" for key, error in sorted(failures.items())]
        return dg.Failure(
            f"dataset {self._dataset.name!r}: {len(failures)} of {asked} partitions failed, the others are stored:\n"
            + "\n".join(lines),
            metadata={"foundry/failed_partitions": dg.MetadataValue.json(sorted(failures))},
            allow_retries=any(may_pass(error) for error in failures.values()),
        )


def _output(rows: pl.LazyFrame, metadata: Mapping[str, Any], sha256: str) -> dg.Output[pl.LazyFrame]:
    with warnings.catch_warnings():
        # Data versions of outputs are marked as beta, which is nothing that a reader of the run's log could act on.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.Output(rows, metadata=metadata, data_version=dg.DataVersion(sha256))
