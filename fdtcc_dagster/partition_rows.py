"""What a partition's rows are: a snapshot's, or those of its window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import polars as pl

from fdtcc_dagster.client import Window
from fdtcc_dagster.client.errors import NotYetAvailableError
from fdtcc_dagster.client.stopping import stop_scans
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.metadata import snapshot_metadata
from fdtcc_dagster.progress import PullLog
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.slices import slice_snapshot
from fdtcc_dagster.waiting import interruptibly

Rows = tuple[pl.LazyFrame, dict[str, dg.MetadataValue], str]
"""The rows of a partition, what is known of them, and their data version."""


class PartitionRows:
    """Pulls what the partitions of one dataset are made of.

    Args:
        dataset: The dataset.
        container: The resource.
        log: The run's log.
    """

    def __init__(self, dataset: FoundryDataset, container: FoundryContainerResource, log: dg.DagsterLogManager) -> None:
        self._dataset = dataset
        self._container = container
        self._log = log

    def of(self, key: str, spool: Path) -> Rows:
        """Pull one partition.

        Args:
            key: The partition key.
            spool: Where the snapshot is put; its file is read whenever the rows are.

        Returns:
            Its rows, metadata and data version.

        Raises:
            FdtccError: There is no snapshot of its window, or it is not as declared.
        """
        return self._snapshot(key, spool) if self._dataset.time is None else self._slice(key, spool)

    def _snapshot(self, key: str, spool: Path) -> Rows:
        window = self._dataset.window(key)
        self._log.info(f"Pulling {self._dataset.name!r}, window {window}")
        log = PullLog(self._log)
        snapshot = self._container.pull(
            self._dataset.name,
            window,
            directory=spool,
            on_message=log.message,
            on_progress=log.progress,
            missing_version=self._dataset.missing_version,
        )
        rows = snapshot.scan(self._dataset.schema)
        return rows, snapshot_metadata(snapshot, rows.collect_schema()), snapshot.sha256

    def _slice(self, key: str, spool: Path) -> Rows:
        if missing := self.not_complete([key]):
            raise missing[key]
        return self.slices([key], spool)(key)

    def slices(self, keys: Sequence[str], spool: Path) -> Callable[[str], Rows]:
        """Pull one snapshot for several slices.

        Args:
            keys: The partition keys, of slices that are complete.
            spool: Where the snapshot is put.

        Returns:
            A function of a partition key that gives what `of` gives.

        Raises:
            FdtccError: There is no snapshot, or it is not as declared.
        """
        assert self._dataset.time is not None  # noqa: S101  told by the callers
        now = _now()
        # Any snapshot pulled since the newest slice was complete has the rows of all of them.
        since = max(self._dataset.complete_at(key) for key in keys)
        self._log.info(f"Pulling {self._dataset.name!r} once for {len(keys)} slices, as of {since} or later")
        log = PullLog(self._log)
        snapshot = self._container.pull(
            self._dataset.name,
            Window(since, now + timedelta(seconds=1)),
            directory=spool,
            on_message=log.message,
            on_progress=log.progress,
            now=now,
        )
        time = self._dataset.time
        whole = interruptibly(lambda: slice_snapshot(snapshot, self._dataset.schema, time), stop_scans)
        windows = {key: self._dataset.window(key) for key in keys}
        counts = whole.count(windows)

        def cut(key: str) -> Rows:
            metadata = snapshot_metadata(snapshot, whole.schema, windows[key])
            metadata["foundry/slice_rows"] = dg.MetadataValue.int(counts[key])
            metadata["foundry/snapshot_rows"] = dg.MetadataValue.int(whole.rows)
            return whole.rows_of(windows[key]), metadata, snapshot.sha256

        return cut

    def not_complete(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Give an error for each slice that is not complete yet.

        Args:
            keys: The partition keys.

        Returns:
            Partition key → an error that says when it will be.
        """
        now = _now()
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


def _now() -> datetime:
    return datetime.now(timezone.utc)
