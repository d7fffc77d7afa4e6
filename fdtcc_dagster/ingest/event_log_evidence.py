"""Evidence in Dagster's event log, where every later run finds it, on every machine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from fdtcc_dagster.evidence import Evidence, PendingCount, RowCount, is_lossy
from fdtcc_dagster.metadata import (
    ANNOUNCED_AT,
    ANNOUNCED_ROWS,
    CONTRADICTED,
    ERROR_CLASS,
    FOUND_ROWS,
    SHA256,
    WINDOW_FROM,
    values_of,
)
from fdtcc_dagster.redaction import counted
from fdtcc_dagster.window import Window

_PAGE = 1000
_RECENT = 100


@dataclass(frozen=True)
class Observed:
    """An observation of an asset: its partition, when it was recorded, and the values of its metadata."""

    partition: str | None
    timestamp: float
    metadata: dict[str, Any]


class Observations:
    """All observations of an asset; after the first read, only newer ones are queried.

    Args:
        instance: The Dagster instance with the event log.
        asset_key: The asset.
    """

    def __init__(self, instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> None:
        self.instance, self.asset_key = instance, asset_key
        self._lock = threading.Lock()
        self._read: list[Observed] = []
        self._last = 0

    def newest_first(self) -> Sequence[Observed]:
        """Read newer observations, and return all of them."""
        with self._lock:
            newer: list[dg.EventLogRecord] = []
            cursor, has_more = None, True
            while has_more:
                page = self.instance.fetch_observations(
                    dg.AssetRecordsFilter(asset_key=self.asset_key, after_storage_id=self._last or None),
                    limit=_PAGE,
                    cursor=cursor,
                )
                newer += page.records
                cursor, has_more = page.cursor, page.has_more
            self._last = max((record.storage_id for record in newer), default=self._last)
            # Others say why a partition failed.
            evidence = (record for record in map(_observed, newer) if ERROR_CLASS not in record.metadata)
            self._read = [*evidence, *self._read]
            return self._read


class EventLogEvidence:
    """Evidence of one asset's snapshots in the event log, beside the evidence on this machine.

    It is kept as `AssetObservation`s: how many rows the container announced for a snapshot, that another number was
    found, and that a connection ended before the pointer came. The materializations of partitions show that the rows of
    their snapshot were counted.

    Args:
        local: The evidence on this machine.
        observations: The observations of the asset.
        partition: The partition that is pulled, or None for several slices, which share a snapshot.
        is_slice: Whether it is a slice: then all partitions of the asset share snapshots.
    """

    def __init__(self, local: Evidence, observations: Observations, partition: str | None, *, is_slice: bool) -> None:
        self._local, self._observations = local, observations
        self._partition, self._is_slice = partition, is_slice
        self._instance, self._asset_key = observations.instance, observations.asset_key

    def row_count(self, sha256: str) -> RowCount | None:
        """See `Evidence`."""
        local, found, announced = self._local.row_count(sha256), self._found(sha256), self._announced(sha256)
        if found is not None and not found.rejected and local is not None and local.rejected:
            # Another machine has found since then that all rows are there.
            self._local.count(sha256, found.announced, found.announced or 0)
        if found is not None or (local is not None and local.rejected):
            return found or local
        return announced or local or self._counted(sha256)

    def announce(self, sha256: str, rows: int) -> None:
        """See `Evidence`."""
        self._local.announce(sha256, rows)
        if self._announced(sha256) != RowCount(rows):
            text = f"The container announced {counted(rows, 'row')} for the snapshot {sha256[:12]}…"
            self._observe(text, {SHA256: sha256, ANNOUNCED_ROWS: rows})

    def count(self, sha256: str, announced: int | None, found: int) -> None:
        """See `Evidence`."""
        self._local.count(sha256, announced, found)
        before, lossy = self._found(sha256), is_lossy(announced, found)
        was_rejected = before is not None and before.rejected
        if before == RowCount(announced, found) or (not lossy and (announced is None or not was_rejected)):
            return
        text = (
            f"The container announced {counted(announced, 'row')}"
            if announced is not None
            else "A version is never empty"
        )
        then = "refused from now on" if lossy else "good again"
        self._observe(
            f"{text}, and {found} were found in the snapshot {sha256[:12]}…, which is {then}",
            {SHA256: sha256, FOUND_ROWS: found, **({} if announced is None else {ANNOUNCED_ROWS: announced})},
        )

    def pending(self, window: Window) -> PendingCount | None:
        """See `Evidence`."""
        kept = [self._local.pending(window), *map(_pending_of, self._relevant())]
        found = [each for each in kept if each and each.is_of(window) and not self._known_since(each.announced_at)]
        return max(found, key=lambda each: (each.announced_at, each.contradicted), default=None)

    def expect(self, pending: PendingCount) -> None:
        """See `Evidence`."""
        self._local.expect(pending)

    def settle(self, window: Window) -> None:
        """See `Evidence`."""
        self._local.settle(window)

    def leave(self, pending: PendingCount) -> None:
        """See `Evidence`."""
        self._local.leave(pending)
        self._observe_pending(pending, "and the connection ended before the snapshot was named")

    def contradict(self, window: Window) -> None:
        """See `Evidence`."""
        pending = self.pending(window)
        self._local.contradict(window)
        if pending is not None and not pending.contradicted:
            self._observe_pending(
                replace(pending, contradicted=True), "before a connection was lost; a version was found that has others"
            )

    def _observe_pending(self, pending: PendingCount, then: str) -> None:
        self._observe(
            f"The container announced {counted(pending.rows, 'row')}, {then}",
            {
                ANNOUNCED_ROWS: pending.rows,
                WINDOW_FROM: dg.MetadataValue.timestamp(pending.from_dt),
                ANNOUNCED_AT: dg.MetadataValue.timestamp(pending.announced_at),
                CONTRADICTED: pending.contradicted,
            },
        )

    def _found(self, sha256: str) -> RowCount | None:
        """The number of rows that was last found in a snapshot."""
        for observed in self._observations.newest_first():
            rows, found = observed.metadata.get(ANNOUNCED_ROWS), observed.metadata.get(FOUND_ROWS)
            if observed.metadata.get(SHA256) == sha256 and isinstance(found, int):
                return RowCount(rows, None if rows == found else found)
        return None

    def _announced(self, sha256: str) -> RowCount | None:
        """The number of rows that was last announced for a snapshot."""
        for observed in self._observations.newest_first():
            metadata = observed.metadata
            if metadata.get(SHA256) == sha256 and FOUND_ROWS not in metadata and ANNOUNCED_ROWS in metadata:
                return RowCount(metadata[ANNOUNCED_ROWS])
        return None

    def _counted(self, sha256: str) -> RowCount | None:
        """The number that the container counted when the snapshot was stored, as this partition or as recent slices."""
        partitions = None if self._is_slice or self._partition is None else [self._partition]
        filters = dg.AssetRecordsFilter(asset_key=self._asset_key, asset_partitions=partitions)
        for record in self._instance.fetch_materializations(filters, limit=_RECENT).records:
            metadata = values_of(record.asset_materialization)
            rows = metadata.get(ANNOUNCED_ROWS)
            if metadata.get(SHA256) == sha256 and isinstance(rows, int):
                return RowCount(rows)
        return None

    def _known_since(self, instant: datetime) -> bool:
        """Tell whether the rows of a snapshot of this partition were announced since then."""
        since = (each for each in self._relevant() if each.timestamp > instant.timestamp())
        return any(SHA256 in observed.metadata for observed in since)

    def _relevant(self) -> list[Observed]:
        """The observations of the partition; all of them if partitions share snapshots."""
        found = self._observations.newest_first()
        return [each for each in found if self._is_slice or each.partition == self._partition]

    def _observe(self, description: str, metadata: dict[str, Any]) -> None:
        # It belongs to no run, so that a run that fails or is killed at once does not lose it.
        self._instance.report_runless_asset_event(
            dg.AssetObservation(
                asset_key=self._asset_key, partition=self._partition, description=description, metadata=metadata
            )
        )


def _observed(record: dg.EventLogRecord) -> Observed:
    return Observed(record.partition_key, record.timestamp, values_of(record.event_log_entry.asset_observation))


def _pending_of(observed: Observed) -> PendingCount | None:
    rows, begin, announced_at = (observed.metadata.get(name) for name in (ANNOUNCED_ROWS, WINDOW_FROM, ANNOUNCED_AT))
    if not (isinstance(rows, int) and isinstance(begin, float) and isinstance(announced_at, float)):
        return None
    contradicted = observed.metadata.get(CONTRADICTED) is True
    return PendingCount(rows, _utc(begin), _utc(announced_at), contradicted)


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, timezone.utc)
