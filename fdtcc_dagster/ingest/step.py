"""What a run of an asset does: pull its partitions, have them stored, and record each of them."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.background import when_interrupted
from fdtcc_dagster.client.hosts import identity_of
from fdtcc_dagster.client.local_evidence import LocalEvidence
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import declaration_of
from fdtcc_dagster.errors import FdtccError
from fdtcc_dagster.evidence import Evidence
from fdtcc_dagster.failures import failure, interrupts_end_the_run, is_full, may_pass
from fdtcc_dagster.ingest.event_log_evidence import EventLogEvidence, Observations
from fdtcc_dagster.ingest.materializations import History
from fdtcc_dagster.ingest.outside_window import explained
from fdtcc_dagster.ingest.provenance import now_in_utc, rows_of
from fdtcc_dagster.ingest.pull import NotStored, PartitionsPull, Stored
from fdtcc_dagster.interrupts import stop_scans
from fdtcc_dagster.redaction import ERROR, excerpt
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.storing import STORED, ChecksPlaces, StoresPartitions
from fdtcc_dagster.version_tags import version_tags

AssetEvent = dg.Output[pl.LazyFrame] | dg.AssetMaterialization

_MOST_CAUSES = 50
# The key by which Dagster's converted source assets say that their events are logged already; not public.
_EVENTS_ARE_LOGGED = "__source_asset_observation__"


class PartitionsRun:
    """One run of one dataset's asset.

    Args:
        dataset: The dataset.
        asset_key: The key of its asset.
        context: Dagster's context of the step.
        container: The resource.
        refetch: Whether partitions that are stored already, as the container has them, are pulled and stored again.
    """

    def __init__(
        self,
        dataset: FoundryDataset,
        asset_key: dg.AssetKey,
        context: dg.AssetExecutionContext,
        container: FoundryContainerResource,
        *,
        refetch: bool = False,
    ) -> None:
        self._dataset = dataset
        self._asset_key = asset_key
        self._context = context
        self._container = container
        self._refetch = refetch
        self._observations = Observations(context.instance, asset_key)
        self._declared = declaration_of(dataset).metadata()

    def materialize_one(self, key: str, io_manager: object) -> Iterator[AssetEvent]:
        """Pull one partition, and store it, or leave it to an IO manager of another kind.

        Args:
            key: The partition key.
            io_manager: The asset's IO manager.

        Yields:
            The output: that the rows are stored, or the rows; and what is known of them.

        Raises:
            dagster.Failure: There is no snapshot; its cause is the client's error.
        """
        # Another IO manager reads the spooled file after the yield, and this function goes on when it has stored the
        # rows.
        self._check_store(io_manager, key)
        with interrupts_end_the_run(self._retry_policy), self._spool() as spool:
            try:
                if isinstance(io_manager, StoresPartitions):
                    (end,) = self._pull(io_manager).run([key], spool)
                    if isinstance(end, NotStored):
                        raise end.error
                    output = self._output(STORED, end.metadata, end.sha256)
                else:
                    output = self._output(
                        *rows_of(
                            self._dataset,
                            key,
                            self._container,
                            spool,
                            self._context.log,
                            self._evidence(key),
                            self._history(),
                            refetch=self._refetch,
                        )
                    )
            except (FdtccError, ValueError, OSError) as error:
                why = explained(error, self._dataset, now_in_utc())
                raise failure(why) from why
            with when_interrupted(stop_scans):
                yield output

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
        self._check_store(io_manager, keys[0])
        recorded = self._recorded_before()
        left = [key for key in keys if key not in recorded]
        failures: dict[str, Exception] = {}
        with interrupts_end_the_run(self._retry_policy), self._spool() as spool:
            for end in self._pull(io_manager).run(left, spool):
                if isinstance(end, Stored):
                    yield self._materialization(end)
                else:
                    failures[end.key] = explained(end.error, self._dataset, now_in_utc())
        if failures:
            raise self._partial_failure(len(keys), failures)
        # Each partition is recorded already, with a data version of its own; Dagster would record all of them once
        # more, with one data version for all. What depends on the asset in this run needs an output all the same.
        yield dg.Output(STORED, metadata={_EVENTS_ARE_LOGGED: True})

    def _check_store(self, io_manager: object, key: str) -> None:
        """Fail before anything is pulled where it cannot be stored: no other attempt helps, as for the spool."""
        if not isinstance(io_manager, ChecksPlaces):
            return
        try:
            io_manager.check_writable(self._asset_key, key)
        except OSError as error:
            passes = may_pass(error) and error.errno != errno.ENOENT
            raise dg.Failure(f"dataset {self._dataset.name!r}: {error}", allow_retries=passes) from error
        except ValueError:
            pass  # of this partition alone, of which it is told when it is stored

    @contextmanager
    def _spool(self) -> Iterator[Path]:
        """The directory for snapshots; where it cannot be made, no other attempt helps, but on a full disk."""
        with ExitStack() as stack:
            try:
                spool = stack.enter_context(self._container.spool())
            except (OSError, ValueError) as error:
                passes = isinstance(error, OSError) and is_full(error)
                raise dg.Failure(f"dataset {self._dataset.name!r}: {error}", allow_retries=passes) from error
            yield spool

    def _pull(self, io_manager: StoresPartitions) -> PartitionsPull:
        return PartitionsPull(
            self._dataset,
            self._asset_key,
            self._container,
            io_manager,
            self._context.log,
            self._evidence,
            self._history(),
            refetch=self._refetch,
        )

    def _evidence(self, partition: str | None) -> Evidence:
        local = LocalEvidence(identity_of(self._container.host, self._container.port), self._dataset.name)
        # An event log in memory is nobody else's, and does not bear to be read beside the thread that writes to it.
        if self._context.instance.is_ephemeral:
            return local
        return EventLogEvidence(local, self._observations, partition, is_slice=self._dataset.time is not None)

    def _history(self) -> History:
        return History(self._context.instance, self._asset_key, self._dataset)

    def _output(self, rows: pl.LazyFrame, metadata: Mapping[str, Any], sha256: str) -> dg.Output[pl.LazyFrame]:
        with warnings.catch_warnings():
            # Data versions of outputs are marked as beta, which is nothing that a reader of the run's log could act on.
            warnings.simplefilter("ignore", dg.BetaWarning)
            return dg.Output(rows, metadata={**metadata, **self._declared}, data_version=dg.DataVersion(sha256))

    def _materialization(self, stored: Stored) -> dg.AssetMaterialization:
        tags = version_tags(self._context, self._asset_key, stored.sha256)
        backfill = self._context.run.tags.get("dagster/backfill")
        return dg.AssetMaterialization(
            asset_key=self._asset_key,
            partition=stored.key,
            metadata={**stored.metadata, **self._declared},
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
        lines = [f"{key}: {type(error).__name__}: {excerpt(error, ERROR)}" for key, error in sorted(failures.items())]
        if len(lines) > _MOST_CAUSES:
            lines[_MOST_CAUSES:] = [f"and {len(lines) - _MOST_CAUSES} more: see foundry/failed_partitions"]
        others = ", the others are stored" if len(failures) < asked else ""
        return dg.Failure(
            f"dataset {self._dataset.name!r}: {len(failures)} of {asked} partitions failed{others}:\n"
            + "\n".join(lines),
            metadata={"foundry/failed_partitions": dg.MetadataValue.json(sorted(failures))},
            allow_retries=any(may_pass(error) for error in failures.values()),
        )
