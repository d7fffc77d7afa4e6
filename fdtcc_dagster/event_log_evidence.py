"""What is known of a dataset's snapshots, in Dagster's event log: every later run finds it there, on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from fdtcc_dagster.client.evidence import Evidence, PendingCount, RowCount, is_lossy

SHA256, ANNOUNCED_ROWS, FOUND_ROWS = "foundry/sha256", "foundry/announced_rows", "foundry/found_rows"
_WINDOW_FROM, _ANNOUNCED_AT = "foundry/window_from", "foundry/announced_at"
_PAGE = 1000
_RECENT = 100


class EventLogEvidence:
    """Evidence of one asset's snapshots; what is kept on this machine counts besides.

    A snapshot that has lost rows, and an announcement whose conversation ended without a pointer, become an
    `AssetObservation` each; that a snapshot's rows were counted is told by the materializations of its partitions.

    Args:
        local: The evidence of this machine.
        instance: The Dagster instance with the event log.
        asset_key: The asset.
        partition: The partition that is pulled, or None for slices, which share a snapshot.
    """

    def __init__(
        self, local: Evidence, instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition: str | None
    ) -> None:
        self._local, self._instance = local, instance
        self._asset_key, self._partition = asset_key, partition

    def row_count(self, sha256: str) -> RowCount | None:
        """See `Evidence`."""
        local = self._local.row_count(sha256)
        if local is not None and local.rejected:
            return local
        return self._rejected(sha256) or local or self._counted(sha256)

    def announce(self, sha256: str, rows: int) -> None:
        """See `Evidence`."""
        self._local.announce(sha256, rows)

    def count(self, sha256: str, announced: int | None, found: int) -> None:
        """See `Evidence`."""
        self._local.count(sha256, announced, found)
        rejected, lossy = self._rejected(sha256), is_lossy(announced, found)
        if rejected == RowCount(announced, found) or (not lossy and (rejected is None or announced is None)):
            return
        text = f"The container announced {announced} rows" if announced is not None else "A version is never empty"
        then = "refused from now on" if lossy else "good again"
        self._observe(
            f"{text}, and {found} were found in the snapshot {sha256[:12]}…, which is {then}",
            {SHA256: sha256, FOUND_ROWS: found, **({} if announced is None else {ANNOUNCED_ROWS: announced})},
        )

    def pending(self) -> PendingCount | None:
        """See `Evidence`."""
        if (local := self._local.pending()) is not None:
            return local
        # The newest first: what was found of a snapshot since then settles it.
        for record, metadata in self._observations():
            if SHA256 in metadata:
                return None
            rows, from_dt, announced_at = (metadata.get(name) for name in (ANNOUNCED_ROWS, _WINDOW_FROM, _ANNOUNCED_AT))
            if isinstance(rows, int) and isinstance(from_dt, float) and isinstance(announced_at, float):
                if self._stored_since(record):
                    return None
                return PendingCount(rows, _utc(from_dt), _utc(announced_at))
        return None

    def expect(self, pending: PendingCount) -> None:
        """See `Evidence`."""
        self._local.expect(pending)

    def settle(self) -> None:
        """See `Evidence`."""
        self._local.settle()

    def leave(self, pending: PendingCount) -> None:
        """See `Evidence`."""
        self._local.leave(pending)
        self._observe(
            f"The container announced {pending.rows} rows, and the connection ended before the snapshot was named",
            {
                ANNOUNCED_ROWS: pending.rows,
                _WINDOW_FROM: dg.MetadataValue.timestamp(pending.from_dt),
                _ANNOUNCED_AT: dg.MetadataValue.timestamp(pending.announced_at),
            },
        )

    def _rejected(self, sha256: str) -> RowCount | None:
        for _, metadata in self._observations():
            announced, found = metadata.get(ANNOUNCED_ROWS), metadata.get(FOUND_ROWS)
            if metadata.get(SHA256) == sha256 and isinstance(found, int):
                # The newest one decides: a later pull may have shown that the rows are all there.
                return None if announced == found else RowCount(announced, found)
        return None

    def _counted(self, sha256: str) -> RowCount | None:
        """What the container counted when the snapshot was stored, as this partition or lately as other slices."""
        partitions = None if self._partition is None else [self._partition]
        filters = dg.AssetRecordsFilter(asset_key=self._asset_key, asset_partitions=partitions)
        for record in self._instance.fetch_materializations(filters, limit=_RECENT).records:
            metadata = _values(record.asset_materialization)
            rows = metadata.get(ANNOUNCED_ROWS)
            if metadata.get(SHA256) == sha256 and isinstance(rows, int):
                return RowCount(rows)
        return None

    def _stored_since(self, observation: dg.EventLogRecord) -> bool:
        partition = observation.partition_key
        filters = dg.AssetRecordsFilter(
            asset_key=self._asset_key,
            asset_partitions=None if partition is None else [partition],
            after_storage_id=observation.storage_id,
        )
        return bool(self._instance.fetch_materializations(filters, limit=1).records)

    def _observations(self) -> Iterator[tuple[dg.EventLogRecord, dict[str, Any]]]:
        """All of the asset, the newest first, with their metadata."""
        cursor = None
        while True:
            page = self._instance.fetch_observations(
                dg.AssetRecordsFilter(asset_key=self._asset_key), limit=_PAGE, cursor=cursor
            )
            for record in page.records:
                yield record, _values(record.event_log_entry.asset_observation)
            if not page.has_more:
                return
            cursor = page.cursor

    def _observe(self, description: str, metadata: dict[str, Any]) -> None:
        # Of no run: a run that fails or is killed at once must not lose it.
        self._instance.report_runless_asset_event(
            dg.AssetObservation(
                asset_key=self._asset_key, partition=self._partition, description=description, metadata=metadata
            )
        )


def _values(event: dg.AssetMaterialization | dg.AssetObservation | None) -> dict[str, Any]:
    return {} if event is None else {name: value.value for name, value in event.metadata.items()}


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, timezone.utc)
