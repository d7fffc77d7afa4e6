"""Pulls partitions: asks the container for snapshots, and brings their rows into the store."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.background import BackgroundTask
from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot
from fdtcc_dagster.client.callbacks import PullObserver
from fdtcc_dagster.client.snapshot import Announcement, ArrivingSnapshot
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.errors import NotYetAvailableError
from fdtcc_dagster.evidence import Evidence
from fdtcc_dagster.ingest.materializations import Materializations
from fdtcc_dagster.ingest.overlap import fetch_and_read
from fdtcc_dagster.ingest.provenance import check_slice, is_same, provenance_of, slice_rows_before
from fdtcc_dagster.ingest.run_log import PullLog, as_shown, in_rows, size_of
from fdtcc_dagster.ingest.slices import Slices, cut
from fdtcc_dagster.metadata import (
    SHA256,
    SIZE_BYTES,
    SNAPSHOT_ROWS,
    STORED_BYTES,
    URI,
    rows_of,
    slice_metadata,
    snapshot_metadata,
)
from fdtcc_dagster.pandas_csv.source import CsvSource, TypedCsv
from fdtcc_dagster.redaction import ERROR, counted, excerpt
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.storing import StoredPartition, StoresPartitions
from fdtcc_dagster.window import Window

_OPEN_END = timedelta(days=366)
"""Any later version will do. So the window ends after the last attempt, however long a run waits and even if the
container's clock is ahead: a retry must find the version that an earlier attempt has caused."""


@dataclass(frozen=True)
class Batch:
    """The partitions that one snapshot of the container serves: a single one, or any number of slices.

    Attributes:
        window: The window in which the container must have pulled that snapshot.
        keys: The partition keys.
    """

    window: Window
    keys: Sequence[str]


@dataclass(frozen=True)
class PartitionResult:
    """The result of pulling a partition.

    Attributes:
        key: The partition key.
        error: Why the partition failed; None if it succeeded.
        metadata: The metadata of its materialization.
        sha256: The pointer of its snapshot.
        rows: Its rows, if the IO manager still has to store them; None if they are stored.
    """

    key: str
    error: Exception | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    rows: pl.LazyFrame | None = None


Call = Callable[[], PartitionResult | None]
"""What the helper thread leaves to the step's thread."""
Report = Callable[[Call], Any]
"""Leaves a call to it. The result of a partition is awaited: so at most `max_concurrency` and a few more are stored and
not yet recorded, and a process that is killed loses no more."""
Fetch = Callable[..., Awaitable[tuple[Snapshot, Any]]]
"""`fetch_and_read` of an announced snapshot: `await fetch(read, directory=…)`."""


def not_complete(dataset: FoundryDataset, keys: Sequence[str]) -> dict[str, NotYetAvailableError]:
    """Make an error for each slice that is not complete yet; it says when the slice will be."""
    if dataset.time is None:
        return {}
    now = datetime.now(timezone.utc)
    complete_at = {key: dataset.complete_at(key) for key in keys}
    return {
        key: NotYetAvailableError(
            f"dataset {dataset.name!r}: the slice {key}, window {dataset.window(key)}, is complete at "
            f"{instant.isoformat()}, and it is {now.isoformat()}; try again then",
            dataset=dataset.name,
            window=dataset.window(key),
            available_at=instant,
        )
        for key, instant in complete_at.items()
        if instant > now
    }


def batches_of(dataset: FoundryDataset, keys: Sequence[str]) -> list[Batch]:
    """The batches for some partitions; slices share one, with any snapshot since the newest of them was complete."""
    if dataset.time is None:
        return [Batch(dataset.window(key), [key]) for key in keys]
    if not keys:
        return []
    return [Batch(Window(max(map(dataset.complete_at, keys)), datetime.now(timezone.utc) + _OPEN_END), keys)]


@dataclass(frozen=True)
class PartitionsPull:
    """Pulls partitions of one dataset in one run.

    A helper thread talks to the container and downloads. It leaves everything that writes to Dagster to the step's
    thread, as calls: not all event logs of Dagster can be used from two threads, and a slow one must not block the
    event loop (ADR 26).

    Attributes:
        dataset: The dataset.
        asset_key: The key of its asset.
        container: The resource.
        store: Stores the partitions; None if another kind of IO manager stores them from the step's output.
        log: The run log.
        evidence: Returns the evidence of a partition's snapshots, or for None that of several slices.
        materializations: The asset's materializations.
        refetch: Whether to pull and store partitions again that are stored already from the container's snapshot.
        several: Whether the run has several partitions, so that each line of its log names one.
    """

    dataset: FoundryDataset
    asset_key: dg.AssetKey
    container: FoundryContainerResource
    store: StoresPartitions | None
    log: dg.DagsterLogManager
    evidence: Callable[[str | None], Evidence]
    materializations: Materializations
    refetch: bool
    several: bool

    def run(self, keys: Sequence[str], spool: Path) -> Iterator[PartitionResult]:
        """Pull partitions, `max_concurrency` of the resource at a time, and store each as soon as it is complete.

        Args:
            keys: The partition keys.
            spool: A directory for spool files; the IO manager may still read rows from it afterwards.

        Yields:
            The result of each partition, as soon as it is known.

        Raises:
            ValueError: A setting of the resource is not allowed.
        """
        incomplete = not_complete(self.dataset, keys)
        yield from (PartitionResult(key, error) for key, error in incomplete.items())
        batches = batches_of(self.dataset, [key for key in keys if key not in incomplete])
        if not batches:
            return
        client, limit = self.container.get_client(), self.container.max_concurrency
        if limit < 1:
            raise ValueError(f"max_concurrency={limit} must be at least 1")
        self.log.info(self._plan(batches))

        async def work(report: Report) -> None:
            slots, conversation = asyncio.Semaphore(limit), asyncio.Lock()

            async def pull(batch: Batch, directory: Path) -> None:
                async with slots:
                    await self._pull_batch(batch, client, conversation, directory, report)

            pulls = [pull(batch, spool / str(number)) for number, batch in enumerate(batches)]
            # All of them have ended when this ends, whatever ends it: what is left would be cancelled a second time.
            for error in await asyncio.gather(*pulls, return_exceptions=True):
                if error is not None:
                    raise error

        with BackgroundTask(work) as task:
            for call in task:
                if (result := call()) is not None:
                    yield result
            task.result()

    async def _pull_batch(
        self,
        batch: Batch,
        client: FoundryDevToolsContainerClient,
        conversation: asyncio.Lock,
        directory: Path,
        report: Report,
    ) -> None:
        """Request a batch's snapshot, and download it for the keys for which it is not stored already."""
        only = batch.keys[0] if len(batch.keys) == 1 else None
        pull_log = PullLog(self.log, "" if only is None else self._prefix(only))
        observer = PullObserver(
            on_message=lambda message: report(partial(pull_log.message, as_shown(message))),
            on_progress=lambda size, total: report(partial(pull_log.progress, size, total)),
            on_notice=lambda message: report(partial(pull_log.notice, as_shown(message))),
        )
        left = list(batch.keys)
        try:
            # Waiting for each other within a run is not logged.
            async with conversation:
                try:
                    announcement = await client.request(
                        self.dataset.name,
                        batch.window.from_dt,
                        batch.window.to_dt,
                        missing_version="raise" if self.dataset.time else self.dataset.missing_version,
                        evidence=self.evidence(only),
                        observer=observer,
                    )
                finally:
                    report(pull_log.end)
            for key in batch.keys:
                # Only now: another run may have stored or removed it while the container was asked.
                stored = None if self.refetch else self._stored(key)
                if stored is not None and is_same(self.dataset, key, stored, announcement):
                    left.remove(key)
                    await report(partial(self._unchanged, key, announcement, stored))
            if left:
                pull_log.announced_rows = announcement.announced_rows
                os.mkdir(directory)
                fetch = partial(
                    fetch_and_read,
                    client,
                    announcement,
                    transport=self.container.transport,
                    observer=observer,
                )
                await self._fetch(left, announcement, fetch, directory, report, pull_log.rows)
        except Exception as error:  # noqa: BLE001 (it is the end of this batch, and not of the others)
            for key in left:
                await report(partial(self._failed, key, error))
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    async def _fetch(
        self,
        keys: Sequence[str],
        announcement: Announcement,
        fetch: Fetch,
        directory: Path,
        report: Report,
        on_rows: Callable[[int], None],
    ) -> None:
        """Download a snapshot and read it at the same time: into the store, or into slices."""
        dataset, spool = self.dataset, directory.parent

        def source_of(arriving: ArrivingSnapshot) -> CsvSource:
            return replace(arriving.source, on_rows=on_rows)

        if (time := dataset.time) is not None:
            windows = {key: dataset.window(key) for key in keys}
            snapshot, slices = await fetch(
                lambda arriving: cut(source_of(arriving), dataset.schema, time, windows, spool), directory=directory
            )
            for key in keys:
                await report(partial(self._take_slice, key, snapshot, slices))
            return
        (key,) = keys
        if self.store is None:
            snapshot, _ = await fetch(lambda _: None, directory=spool)
            await report(partial(self._take_snapshot, key, snapshot))
            return

        def store(rows: TypedCsv) -> tuple[pl.Schema, Mapping[str, Any]]:
            return rows.schema, self._store(key, rows.scan(), announcement)

        snapshot, (schema, stored) = await fetch(
            lambda arriving: source_of(arriving).read(dataset.schema, store), directory=directory
        )
        await report(partial(self._snapshot_stored, key, snapshot, schema, stored))

    def _stored(self, key: str) -> StoredPartition | None:
        return None if self.store is None else self.store.stored_partition(self.asset_key, key)

    def _store(
        self, key: str, rows: pl.LazyFrame, announcement: Announcement, more: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        assert self.store is not None  # noqa: S101  checked by the caller
        provenance = {**provenance_of(self.dataset, key, announcement), **(more or {})}
        return self.store.store_partition(self.asset_key, key, rows, provenance)

    def _unchanged(self, key: str, announcement: Announcement, stored: StoredPartition) -> PartitionResult:
        snapshot_rows = int(stored.provenance.get(SNAPSHOT_ROWS, stored.rows))
        # They equal the announced number, which may show that a rejected snapshot has all rows after all.
        announcement.evidence.count(announcement.sha256, announcement.announced_rows, snapshot_rows)
        self.log.info(f"{self._prefix(key)}Unchanged: the container's snapshot is stored already")
        # What was recorded of this snapshot is recorded again, so that a plot of it has no gap.
        is_recorded = self.materializations.value(key, SHA256) == announcement.sha256
        size = self.materializations.value(key, SIZE_BYTES) if is_recorded else None
        more: Any = {"size_bytes": size if isinstance(size, int) else None, "unchanged": True}
        if self.dataset.time is None:
            metadata = snapshot_metadata(announcement, stored.schema, **more)
        else:
            window = self.dataset.window(key)
            metadata = slice_metadata(announcement, stored.schema, window, stored.rows, snapshot_rows, **more)
        return PartitionResult(key, None, {**metadata, **stored.metadata}, announcement.sha256)

    def _snapshot_stored(
        self, key: str, snapshot: Snapshot, schema: pl.Schema, stored: Mapping[str, Any]
    ) -> PartitionResult:
        self._log_stored(key, stored, snapshot)
        return PartitionResult(key, None, {**snapshot_metadata(snapshot, schema), **stored}, snapshot.sha256)

    def _take_snapshot(self, key: str, snapshot: Snapshot) -> PartitionResult:
        rows = snapshot.scan(self.dataset.schema)
        return PartitionResult(key, None, snapshot_metadata(snapshot, rows.collect_schema()), snapshot.sha256, rows)

    def _take_slice(self, key: str, snapshot: Snapshot, slices: Slices) -> PartitionResult:
        """Store a slice, unless the stored one must stay."""
        stored = dict[str, Any]()
        try:
            rows = slices.rows_of(key)
            # Only now: another run may have stored it while this one pulled.
            before = slice_rows_before(self.dataset, key, self._stored(key), self.materializations)
            check_slice(self.dataset, key, slices, before, refetch=self.refetch)
            replaced = "" if before is None else f" in place of {before:,}"
            if self.store is None:
                self.log.info(f"Cut {in_rows(slices.counts[key])}{replaced} from a snapshot of {slices.rows:,}")
            else:
                stored.update(self._store(key, rows, snapshot, {SNAPSHOT_ROWS: str(slices.rows)}))
                self._log_stored(key, stored, snapshot, replaced)
        except Exception as error:  # noqa: BLE001 (it is the end of this partition, and not of the others)
            return PartitionResult(key, error)
        finally:
            if self.store is not None:
                slices.remove(key)
        window = self.dataset.window(key)
        metadata = slice_metadata(snapshot, slices.schema, window, slices.counts[key], slices.rows)
        left = rows if self.store is None else None
        return PartitionResult(key, None, {**metadata, **stored}, snapshot.sha256, left)

    def _failed(self, key: str, error: Exception) -> PartitionResult:
        # Slices fail together, and the failure of the run names them.
        if self.several and self.dataset.time is None:
            self.log.error(f"{key}: {excerpt(error, ERROR)}")
        return PartitionResult(key, error)

    def _plan(self, batches: Sequence[Batch]) -> str:
        first = batches[0]
        if self.dataset.time is not None:
            slices = f"once for {counted(len(first.keys), 'slice')}, as of {first.window.from_dt} or later"
            return f"Pulling {self.dataset.name!r} {slices}"
        what = f"window {first.window}" if len(batches) == 1 else counted(len(batches), "partition")
        return f"Pulling {self.dataset.name!r}, {what}"

    def _log_stored(self, key: str, stored: Mapping[str, Any], snapshot: Snapshot, replaced: str = "") -> None:
        rows, stored_bytes, place = rows_of(stored), stored.get(STORED_BYTES), stored.get(URI)
        what = in_rows(rows) if rows is not None else "the rows"
        of = "" if self.dataset.time is None else "a snapshot of "
        size = f"from {of}{size_of(snapshot.size_bytes)} of CSV"
        as_bytes = f", {size_of(stored_bytes)} stored" if isinstance(stored_bytes, int) else ""
        where = f" as {place}" if isinstance(place, str) else ""
        self.log.info(f"{self._prefix(key)}Stored {what}{replaced} ({size}{as_bytes}){where}")

    def _prefix(self, key: str) -> str:
        """The beginning of a partition's lines in the log."""
        return f"{key}: " if self.several else ""
