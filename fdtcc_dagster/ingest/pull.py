"""Pulling partitions of a dataset, and storing each as soon as it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.client.snapshot import Announcement, ArrivingSnapshot, Snapshot
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.evidence import Evidence
from fdtcc_dagster.ingest.fanout import Done, Failed, Received, Said, Unchanged, pull_each
from fdtcc_dagster.ingest.materializations import History
from fdtcc_dagster.ingest.outgrown import check_slice
from fdtcc_dagster.ingest.provenance import (
    SNAPSHOT_ROWS,
    in_place_of,
    is_same,
    not_complete,
    provenance_of,
    request_window,
    slice_rows_before,
)
from fdtcc_dagster.ingest.run_log import PullLog, megabytes
from fdtcc_dagster.ingest.slices import Slices, cut
from fdtcc_dagster.metadata import slice_metadata, snapshot_metadata
from fdtcc_dagster.pandas_csv.typed import TypedCsv
from fdtcc_dagster.redaction import ERROR, excerpt
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.storing import StoredPartition, StoresPartitions


@dataclass(frozen=True)
class Stored:
    """A partition that is stored.

    Attributes:
        key: The partition key.
        metadata: What is known of it.
        sha256: The snapshot that its rows are of.
    """

    key: str
    metadata: Mapping[str, Any]
    sha256: str


@dataclass(frozen=True)
class NotStored:
    """A partition that is not.

    Attributes:
        key: The partition key.
        error: Why.
    """

    key: str
    error: Exception


End = Stored | NotStored


class PartitionsPull:
    """Pulls partitions of one dataset into one IO manager.

    Args:
        dataset: The dataset.
        asset_key: The key of its asset.
        container: The resource.
        io_manager: Stores the partitions.
        log: The run's log.
        evidence: Gives where it is kept what is known of a partition's snapshots; None stands for slices.
        history: What was recorded of the asset.
        refetch: Whether partitions that are stored already, as the container has them, are pulled and stored again.
    """

    def __init__(
        self,
        dataset: FoundryDataset,
        asset_key: dg.AssetKey,
        container: FoundryContainerResource,
        io_manager: StoresPartitions,
        log: dg.DagsterLogManager,
        evidence: Callable[[str | None], Evidence],
        history: History,
        *,
        refetch: bool,
    ) -> None:
        self._dataset, self._asset_key = dataset, asset_key
        self._container, self._io_manager = container, io_manager
        self._log, self._evidence, self._history, self._refetch = log, evidence, history, refetch
        self._there: dict[str, StoredPartition] = {}
        self._single = False

    def run(self, keys: Sequence[str], spool: Path) -> Iterator[End]:
        """Pull and store partitions.

        Args:
            keys: The partition keys.
            spool: A directory for what is on its way.

        Yields:
            Whether each partition is stored, in the order in which that is known.
        """
        self._single = len(keys) == 1
        if self._dataset.time is None:
            yield from self._snapshots(keys, spool)
            return
        incomplete = not_complete(self._dataset, keys)
        yield from (NotStored(key, error) for key, error in incomplete.items())
        complete = [key for key in keys if key not in incomplete]
        if complete:
            yield from self._slices(complete, spool)

    def _snapshots(self, keys: Sequence[str], spool: Path) -> Iterator[End]:
        dataset = self._dataset
        windows = {key: dataset.window(key) for key in keys}
        logs = {key: PullLog(self._log, self._prefix(key)) for key in keys}

        def read(key: str, arriving: ArrivingSnapshot) -> tuple[pl.Schema, Mapping[str, Any]]:
            def store(rows: TypedCsv) -> tuple[pl.Schema, Mapping[str, Any]]:
                return rows.schema, self._store(key, rows.scan(), arriving.announcement)

            return arriving.source.read(dataset.schema, store)

        what = f"window {windows[keys[0]]}" if len(keys) == 1 else f"{len(keys)} partitions"
        self._log.info(f"Pulling {dataset.name!r}, {what}")
        with pull_each(
            self._container.get_client(),
            dataset.name,
            windows,
            read,
            is_there=self._is_there,
            evidence=self._evidence,
            spool=spool,
            limit=self._container.max_concurrency,
            transport=self._container.transport,
            missing_version=dataset.missing_version,
        ) as pulls:
            for item in pulls:
                if isinstance(item, (Said, Received)):
                    logs[item.key].show(item)
                    continue
                logs[item.key].end()
                if isinstance(item, Failed):
                    if len(keys) > 1:
                        self._log.error(f"{item.key}: {excerpt(item.error, ERROR)}")
                    yield NotStored(item.key, item.error)
                elif isinstance(item, Unchanged):
                    yield self._unchanged(item.key, item.announcement)
                else:
                    schema, stored = item.result
                    metadata = {**snapshot_metadata(item.snapshot, schema), **stored}
                    self._tell_stored(item.key, stored, item.snapshot)
                    yield Stored(item.key, metadata, item.snapshot.sha256)
            pulls.result()

    def _slices(self, keys: Sequence[str], spool: Path) -> Iterator[End]:
        dataset, time = self._dataset, self._dataset.time
        assert time is not None  # noqa: S101  told by the caller
        log, wanted = PullLog(self._log), list(keys)
        window = request_window(dataset, keys)
        announced: list[Announcement] = []

        def is_there(_: str, announcement: Announcement) -> bool:
            wanted[:] = [key for key in keys if not self._is_there(key, announcement)]
            announced[:] = [announcement]
            return not wanted

        def read(_: str, arriving: ArrivingSnapshot) -> Slices:
            windows = {key: dataset.window(key) for key in wanted}
            return cut(arriving.source, dataset.schema, time, windows, spool)

        # Any snapshot pulled since the newest slice was complete has the rows of all of them.
        self._log.info(f"Pulling {dataset.name!r} once for {len(keys)} slices, as of {window.from_dt} or later")
        with pull_each(
            self._container.get_client(),
            dataset.name,
            {dataset.name: window},
            read,
            is_there=is_there,
            evidence=lambda _: self._evidence(keys[0] if len(keys) == 1 else None),
            spool=spool,
            limit=1,
            transport=self._container.transport,
            missing_version="raise",
        ) as pulls:
            for item in pulls:
                if isinstance(item, (Said, Received)):
                    log.show(item)
                    continue
                log.end()
                for announcement in announced:
                    yield from (self._unchanged(key, announcement) for key in keys if key not in wanted)
                if isinstance(item, Failed):
                    yield from (NotStored(key, item.error) for key in wanted)
                elif isinstance(item, Done):
                    yield from (self._stored_slice(key, item) for key in wanted)
            pulls.result()

    def _stored_slice(self, key: str, done: Done[Slices]) -> End:
        snapshot, slices = done.snapshot, done.result
        try:
            # Only now: another run may have stored it while this one pulled.
            there = self._io_manager.stored_partition(self._asset_key, key)
            before = slice_rows_before(self._dataset, key, there, self._history)
            check_slice(self._dataset, key, slices, before, refetch=self._refetch)
            stored = self._store(key, slices.rows_of(key), snapshot, {SNAPSHOT_ROWS: str(slices.rows)})
        except Exception as error:  # noqa: BLE001 (whatever befalls one partition, the others are stored)
            return NotStored(key, error)
        finally:
            slices.remove(key)
        self._tell_stored(key, stored, snapshot, before)
        window = self._dataset.window(key)
        metadata = slice_metadata(snapshot, slices.schema, window, slices.counts[key], slices.rows)
        return Stored(key, {**metadata, **stored}, snapshot.sha256)

    def _is_there(self, key: str, announcement: Announcement) -> bool:
        # Only now: another run may have stored or removed it while the container was asked.
        stored = None if self._refetch else self._io_manager.stored_partition(self._asset_key, key)
        if stored is None or not is_same(self._dataset, key, stored, announcement):
            return False
        self._there[key] = stored
        return True

    def _unchanged(self, key: str, announcement: Announcement) -> Stored:
        stored = self._there.pop(key)
        rows = int(stored.provenance.get(SNAPSHOT_ROWS, stored.rows))
        # They were compared with what was announced, which may show that the rows are all there after all.
        announcement.evidence.count(announcement.sha256, announcement.announced_rows, rows)
        self._log.info(f"{self._prefix(key)}Unchanged: the container's snapshot is stored already")
        if self._dataset.time is None:
            metadata = snapshot_metadata(announcement, stored.schema, unchanged=True)
        else:
            metadata = slice_metadata(
                announcement,
                stored.schema,
                self._dataset.window(key),
                stored.rows,
                int(stored.provenance[SNAPSHOT_ROWS]),
                unchanged=True,
            )
        return Stored(key, {**metadata, **stored.metadata}, announcement.sha256)

    def _prefix(self, key: str) -> str:
        """What lines of a partition begin with."""
        return "" if self._single else f"{key}: "

    def _tell_stored(self, key: str, stored: Mapping[str, Any], snapshot: Snapshot, before: int | None = None) -> None:
        rows = stored.get("dagster/partition_row_count")
        what = f"{rows:,} rows" if isinstance(rows, int) else "the rows"
        of = "" if self._dataset.time is None else "a snapshot of "
        source = f"(from {of}{megabytes(snapshot.size_bytes)} MB of CSV)"
        self._log.info(f"{self._prefix(key)}Stored {what}{in_place_of(before)} {source}")

    def _store(
        self, key: str, rows: pl.LazyFrame, announcement: Announcement, more: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        provenance = {**provenance_of(self._dataset, key, announcement), **(more or {})}
        return self._io_manager.store_partition(self._asset_key, key, rows, provenance)
