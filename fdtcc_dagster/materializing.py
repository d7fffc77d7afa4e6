"""What a run of an asset does: pull its partitions, have them stored, and record each of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import dagster as dg
import polars as pl
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from fdtcc_dagster.client import Snapshot, Window
from fdtcc_dagster.client.errors import FdtccError, NotYetAvailableError, is_retryable
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.fanout import Received, Said, pull_each
from fdtcc_dagster.metadata import snapshot_metadata
from fdtcc_dagster.progress import PullLog
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.slices import slice_snapshot

Rows = tuple[pl.LazyFrame, dict[str, dg.MetadataValue], str]
"""The rows of a partition, what is known of them, and their data version."""

AssetEvent = dg.Output[pl.LazyFrame] | dg.AssetMaterialization

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
        with self._container.spool() as spool:
            try:
                rows, metadata, sha256 = (
                    self._snapshot(key, spool) if self._dataset.time is None else self._slice(key, spool)
                )
            except FdtccError as error:
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
        failures: dict[str, FdtccError | OSError] = {}
        with self._container.spool() as spool:
            store_each = self._store_snapshots if self._dataset.time is None else self._store_slices
            yield from store_each(left, io_manager, spool, failures)
        if failures:
            raise self._partial_failure(len(keys), failures)
        # Each partition is recorded already, with a data version of its own; Dagster would record all of them once
        # more, with one data version for all. What depends on the asset in this run needs an output all the same.
        yield dg.Output(STORED, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})

    def _snapshot(self, key: str, spool: Path) -> Rows:
        now = _now()
        window = self._dataset.window(key, now)
        self._context.log.info(f"Pulling {self._dataset.name!r}, window {window}")
        log = PullLog(self._context.log)
        snapshot = self._container.pull(
            self._dataset.name,
            window,
            directory=spool,
            on_message=log.message,
            on_progress=log.progress,
            missing_version=self._dataset.missing_version,
            now=now,
        )
        rows = snapshot.scan(self._dataset.schema)
        return rows, snapshot_metadata(snapshot, rows.collect_schema(), now), snapshot.sha256

    def _slice(self, key: str, spool: Path) -> Rows:
        if missing := self._not_complete([key], _now()):
            raise missing[key]
        return self._slices([key], spool)(key)

    def _slices(self, keys: Sequence[str], spool: Path) -> Callable[[str], Rows]:
        """Pull one snapshot for all slices, and give what makes each of them."""
        assert self._dataset.time is not None  # noqa: S101  told by the callers
        now = _now()
        # Any snapshot pulled since the newest slice was complete has the rows of all of them.
        since = max(self._dataset.complete_at(key) for key in keys)
        self._context.log.info(f"Pulling {self._dataset.name!r} once for {len(keys)} slices, as of {since} or later")
        log = PullLog(self._context.log)
        snapshot = self._container.pull(
            self._dataset.name,
            Window(since, now + timedelta(seconds=1)),
            directory=spool,
            on_message=log.message,
            on_progress=log.progress,
            now=now,
        )
        whole = slice_snapshot(snapshot, self._dataset.schema, self._dataset.time)
        windows = {key: self._dataset.window(key) for key in keys}
        counts = whole.count(windows)

        def cut(key: str) -> Rows:
            metadata = snapshot_metadata(snapshot, whole.schema, now, windows[key])
            metadata["foundry/slice_rows"] = dg.MetadataValue.int(counts[key])
            metadata["foundry/snapshot_rows"] = dg.MetadataValue.int(whole.rows)
            return whole.rows_of(windows[key]), metadata, snapshot.sha256

        return cut

    def _not_complete(self, keys: Sequence[str], now: datetime) -> dict[str, FdtccError | OSError]:
        complete_at = {key: self._dataset.complete_at(key) for key in keys}
        return {
            key: NotYetAvailableError(
                f"dataset {self._dataset.name!r}: the slice {key}, window {self._dataset.window(key)}, is complete at "
                f"{instant.isoformat()}, and it is {now.isoformat()}; try again then",
                dataset=self._dataset.name,
                window=self._dataset.window(key),
                available_at=instant,
            )
            for key, instant in complete_at.items()
            if instant > now
        }

    def _store_slices(
        self,
        keys: Sequence[str],
        io_manager: StoresPartitions,
        spool: Path,
        failures: dict[str, FdtccError | OSError],
    ) -> Iterator[dg.AssetMaterialization]:
        failures.update(self._not_complete(keys, _now()))
        complete = [key for key in keys if key not in failures]
        try:
            cut = self._slices(complete, spool) if complete else None
        except (FdtccError, OSError) as error:
            failures.update(dict.fromkeys(complete, error))
            return
        for key in complete:
            assert cut is not None  # noqa: S101  there are complete ones
            rows, metadata, sha256 = cut(key)
            try:
                yield self._recorded(key, metadata, io_manager.store_partition(self._asset_key, key, rows), sha256)
            except (FdtccError, OSError) as error:
                failures[key] = error

    def _store_snapshots(
        self,
        keys: Sequence[str],
        io_manager: StoresPartitions,
        spool: Path,
        failures: dict[str, FdtccError | OSError],
    ) -> Iterator[dg.AssetMaterialization]:
        now = _now()
        windows = {key: self._dataset.window(key, now) for key in keys}
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
                    yield self._stored(item.key, item.outcome, io_manager, now)
                except (FdtccError, OSError) as error:
                    self._context.log.error(f"{item.key}: {error}")
                    failures[item.key] = error
                item.handled()
            pulls.result()

    def _stored(
        self, key: str, snapshot: Snapshot, io_manager: StoresPartitions, now: datetime
    ) -> dg.AssetMaterialization:
        rows = snapshot.scan(self._dataset.schema)
        stored = io_manager.store_partition(self._asset_key, key, rows)
        return self._recorded(key, snapshot_metadata(snapshot, rows.collect_schema(), now), stored, snapshot.sha256)

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
            self._context.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
        materializations = [record.asset_materialization for record in records]
        return {m.partition for m in materializations if m and m.asset_key == self._asset_key and m.partition}

    def _partial_failure(self, asked: int, failures: Mapping[str, FdtccError | OSError]) -> dg.Failure:
        lines = [f"{key}: {type(error).__name__}: {error}" for key, error in sorted(failures.items())]
        return dg.Failure(
            f"dataset {self._dataset.name!r}: {len(failures)} of {asked} partitions failed, the others are stored:\n"
            + "\n".join(lines),
            metadata={"foundry/failed_partitions": dg.MetadataValue.json(sorted(failures))},
            allow_retries=any(is_retryable(error) for error in failures.values()),
        )


def failure(error: FdtccError) -> dg.Failure:
    """Make a failure of the run that reads well, and is retried only if that may help.

    Args:
        error: What went wrong.

    Returns:
        The failure, to be raised from `error`.
    """
    return dg.Failure(
        f"{type(error).__name__}: {error}",
        metadata={"foundry/error": type(error).__name__},
        allow_retries=is_retryable(error),
    )


def _output(rows: pl.LazyFrame, metadata: Mapping[str, Any], sha256: str) -> dg.Output[pl.LazyFrame]:
    with warnings.catch_warnings():
        # Data versions of outputs are marked as beta, which is nothing that a reader of the run's log could act on.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.Output(rows, metadata=metadata, data_version=dg.DataVersion(sha256))


def _now() -> datetime:
    return datetime.now(timezone.utc)
