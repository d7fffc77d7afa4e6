"""The step of an asset as Dagster sees it: the events of its partitions, its failures, and whether it is retried."""

from __future__ import annotations

import errno
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.client.endpoint import identity_of
from fdtcc_dagster.client.local_evidence import LocalEvidence
from fdtcc_dagster.dagster_internals import EVENTS_ARE_LOGGED, retry_policy_of, version_tags
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import declaration_of
from fdtcc_dagster.errors import FdtccError
from fdtcc_dagster.evidence import Evidence
from fdtcc_dagster.failures import explained, failure, interrupts_end_the_run, is_full, may_pass
from fdtcc_dagster.ingest.event_log_evidence import EventLogEvidence, Observations
from fdtcc_dagster.ingest.materializations import Materializations, recorded_in_run
from fdtcc_dagster.ingest.pull import PartitionResult, PartitionsPull
from fdtcc_dagster.interrupts import stop_scans, when_interrupted
from fdtcc_dagster.metadata import ERROR_CLASS, FAILED_PARTITIONS, FAILURES, in_order, markdown_table
from fdtcc_dagster.redaction import excerpt
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.storing import STORED, ChecksPlaces, StoresPartitions

AssetEvent = dg.Output[pl.LazyFrame] | dg.AssetMaterialization

_MOST_CAUSES, _CAUSE = 20, 1000
"""How many causes the failure of a run has, and how many characters of each: Dagster stores it twice."""
_MOST_FAILED = 1000
"""How many failed partitions its metadata have."""
_MOST_OBSERVED = 100
"""For how many of a run there is an observation: later runs read all observations of the asset."""


@dataclass(frozen=True)
class Step:
    """The step of one dataset's asset in one run.

    Attributes:
        dataset: The dataset.
        context: Dagster's context of the step.
        container: The resource.
        io_manager: The asset's IO manager.
        refetch: Whether to pull and store partitions again that are stored already from the container's snapshot.
    """

    dataset: FoundryDataset
    context: dg.AssetExecutionContext
    container: FoundryContainerResource
    io_manager: object
    refetch: bool

    def run(self) -> Iterator[AssetEvent]:
        """Pull the run's partitions, store them, and record them.

        Yields:
            For one partition an output: a mark that its rows are stored, or the rows. For several, a materialization of
            each as soon as it is stored, and finally an output without rows.

        Raises:
            dagster.Failure: There is no snapshot; some partitions failed, which it names with their causes, and the
                others are stored and recorded; the run has several partitions, and its IO manager stores one; its range
                has none; or the IO manager keeps what it is given instead of its rows.
        """
        keys = self.context.partition_keys
        if not keys:
            first, last = self.context.partition_key_range
            raise dg.Failure(
                f"dataset {self.dataset.name!r}: no partition lies between {first} and {last}: a range begins with the "
                "earlier one",
                allow_retries=False,
            )
        store = self.io_manager if isinstance(self.io_manager, StoresPartitions) else None
        if store is None and len(keys) > 1:
            raise dg.Failure(
                f"dataset {self.dataset.name!r}: {type(self.io_manager).__name__} stores one partition per run, but "
                f"this run has {len(keys)}: set max_partitions_per_run=1, or use FoundryParquetIOManager",
                allow_retries=False,
            )
        self._check_store(keys[0])
        pull = PartitionsPull(
            self.dataset,
            self._asset_key,
            self.container,
            store,
            self.context.log,
            self._evidence,
            Materializations(self.context.instance, self._asset_key, self.dataset),
            self.refetch,
            several=len(keys) > 1,
        )
        with interrupts_end_the_run(lambda: retry_policy_of(self.context)), self._spool() as spool:
            yield from (self._one(keys[0], pull, spool) if len(keys) == 1 else self._each(keys, pull, spool))

    def _one(self, key: str, pull: PartitionsPull, spool: Path) -> Iterator[AssetEvent]:
        try:
            (result,) = pull.run([key], spool)
            if result.error is not None:
                raise result.error
        except (FdtccError, ValueError, OSError) as error:
            why = explained(error, self.dataset, datetime.now(timezone.utc))
            self._observe_failure(key, why)
            raise failure(why) from why
        with warnings.catch_warnings():
            # Data versions of outputs are marked as beta; a reader of the run log can do nothing about that.
            warnings.simplefilter("ignore", dg.BetaWarning)
            metadata = self._metadata(result)
            rows = STORED if result.rows is None else result.rows
            output = dg.Output(rows, metadata=metadata, data_version=dg.DataVersion(result.sha256))
        # Another IO manager reads the spool after the yield, and this function continues when it has stored the rows.
        with when_interrupted(stop_scans):
            yield output

    def _each(self, keys: Sequence[str], pull: PartitionsPull, spool: Path) -> Iterator[AssetEvent]:
        recorded = self._recorded_before()
        failures: dict[str, Exception] = {}
        for result in pull.run([key for key in keys if key not in recorded], spool):
            if result.error is None:
                yield self._materialization(result)
            else:
                failures[result.key] = explained(result.error, self.dataset, datetime.now(timezone.utc))
                if len(failures) <= _MOST_OBSERVED:
                    self._observe_failure(result.key, failures[result.key])
        if failures:
            raise self._partial_failure(len(keys), failures)
        # Each partition is recorded already, with a data version of its own; Dagster would record all of them once
        # more, with one data version for all. Downstream assets in this run still need an output.
        yield dg.Output(STORED, metadata={EVENTS_ARE_LOGGED: True})

    def _check_store(self, key: str) -> None:
        """Fail before anything is pulled if the store cannot be written to, or would lose the rows."""
        kind = type(self.io_manager)
        if _keeps_frames(kind):
            raise dg.Failure(
                f"dataset {self.dataset.name!r}: {kind.__name__} stores a LazyFrame without its rows, which are in a "
                "CSV that ends with the step: use FoundryParquetIOManager, in a test with base_dir=str(tmp_path)",
                allow_retries=False,
            )
        if not isinstance(self.io_manager, ChecksPlaces):
            return
        try:
            self.io_manager.check_writable(self._asset_key, key)
        except OSError as error:
            passes = may_pass(error) and error.errno != errno.ENOENT
            raise dg.Failure(f"dataset {self.dataset.name!r}: {error}", allow_retries=passes) from error
        except ValueError:
            pass  # it concerns this partition only, and is raised again when that is stored

    @contextmanager
    def _spool(self) -> Iterator[Path]:
        """The directory for snapshots; if it cannot be made, a retry helps on a full disk only."""
        with ExitStack() as stack:
            try:
                spool = stack.enter_context(self.container.spool())
            except (OSError, ValueError) as error:
                passes = isinstance(error, OSError) and is_full(error)
                raise dg.Failure(f"dataset {self.dataset.name!r}: {error}", allow_retries=passes) from error
            yield spool

    @property
    def _asset_key(self) -> dg.AssetKey:
        # Not the spec's: loading it from a module with a prefix, or `with_attributes`, gives the asset another one.
        key: dg.AssetKey = self.context.asset_key
        return key

    @cached_property
    def _observations(self) -> Observations:
        return Observations(self.context.instance, self._asset_key)

    def _evidence(self, partition: str | None) -> Evidence:
        local = LocalEvidence(identity_of(self.container.host, self.container.port), self.dataset.name)
        # An event log in memory is not shared, and cannot be read while another thread writes to it.
        if self.context.instance.is_ephemeral:
            return local
        return EventLogEvidence(local, self._observations, partition, is_slice=self.dataset.time is not None)

    def _materialization(self, result: PartitionResult) -> dg.AssetMaterialization:
        tags = version_tags(self.context, self._asset_key, result.sha256)
        backfill = self.context.run.tags.get("dagster/backfill")
        return dg.AssetMaterialization(
            asset_key=self._asset_key,
            partition=result.key,
            metadata=self._metadata(result),
            tags=tags if backfill is None else {**tags, "dagster/backfill": backfill},
        )

    def _metadata(self, result: PartitionResult) -> dict[str, Any]:
        return in_order({**result.metadata, **declaration_of(self.dataset).metadata()})

    def _recorded_before(self) -> set[str]:
        """The partitions that an earlier attempt of this step has recorded."""
        if self.context.retry_number == 0:
            return set()
        return set(recorded_in_run(self.context.instance, self.context.run.run_id, self._asset_key))

    def _observe_failure(self, key: str, error: Exception) -> None:
        """Leave the reason where a partition's page in the UI shows it."""
        self.context.log_event(
            dg.AssetObservation(
                asset_key=self._asset_key,
                partition=key,
                description=f"Failed: {self._without_dataset(error)}",
                metadata={ERROR_CLASS: type(error).__name__},
            )
        )

    def _without_dataset(self, error: Exception) -> str:
        """An error's text where the dataset is named already."""
        name = f"dataset {self.dataset.name!r}"
        return excerpt(str(error).removeprefix(f"{name}: ").removeprefix(f"{name}, "), _CAUSE)

    def _partial_failure(self, asked: int, failures: Mapping[str, Exception]) -> dg.Failure:
        failed = sorted(failures.items())
        causes = [(key, type(error).__name__, self._without_dataset(error)) for key, error in failed[:_MOST_CAUSES]]
        lines = [": ".join(cause) for cause in causes]
        if more := failed[_MOST_CAUSES:]:
            kinds = Counter(type(error).__name__ for _, error in more)
            lines.append(f"and {len(more):,} more: {', '.join(f'{kind} x {n:,}' for kind, n in kinds.most_common())}")
        others = ", the others are stored" if len(failures) < asked else ""
        return dg.Failure(
            f"dataset {self.dataset.name!r}: {len(failures):,} of {asked:,} partitions failed{others}:\n"
            + "\n".join(lines),
            metadata={
                FAILURES: dg.MetadataValue.md(markdown_table(("partition", "error", "why, and what to do"), causes)),
                FAILED_PARTITIONS: dg.MetadataValue.json([key for key, _ in failed[:_MOST_FAILED]]),
            },
            allow_retries=any(may_pass(error) for error in failures.values()),
        )


def _keeps_frames(kind: type) -> bool:
    """Whether an IO manager stores by Dagster's own code, which pickles a LazyFrame or keeps it in memory."""
    for each in kind.__mro__:
        # They are named so for each place: `PickledObjectFilesystemIOManager`, `PickledObjectS3IOManager`.
        if each is dg.InMemoryIOManager or each.__name__.startswith("PickledObject"):
            return True
        if vars(each).keys() & {"handle_output", "dump_to_path"}:
            return False
    return False
