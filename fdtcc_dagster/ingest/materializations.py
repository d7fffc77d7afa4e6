"""What the event log knows of a dataset's stored partitions: one at a time, or of many at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dagster as dg

from fdtcc_dagster.calendar.timezones import UTC
from fdtcc_dagster.dagster_internals import last_passed, latest_materializations
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import declaration_of
from fdtcc_dagster.metadata import (
    COLUMN_SCHEMA,
    COMPARED_UP_TO,
    DECLARATION,
    OUTSIDE_WINDOW,
    SLICE_ROWS,
    WINDOW_FROM,
    WINDOW_TO,
    first_and_last,
    rows_of,
    values_of,
)
from fdtcc_dagster.window import Window

DECLARATION_CHECK = "foundry_declaration"
"""The name of the check of declarations."""

_LATECOMERS = 1000
"""How many of the newest events are read again: in Postgres, one may become visible after a newer one."""
_RECORDS_AT_ONCE = 500
"""How many records one query asks for: within what databases and Dagster allow."""


@dataclass(frozen=True)
class Recorded:
    """What a materialization recorded.

    Attributes:
        storage_id: The materialization's number in the event log.
        timestamp: When it was recorded; None if that was not read.
        window: The window of the pull or, for a slice, of its rows; None if it was not recorded or not read.
        is_slice: Whether the partition is a slice.
        outside_window: Whether it is known to hold data from outside its window.
        columns: The stored columns.
        digest: The digest of the declaration, or None if an older version stored the partition.
        parts: The declaration's parts in words.
    """

    storage_id: int
    timestamp: float | None = None
    window: Window | None = None
    is_slice: bool = False
    outside_window: bool = False
    columns: dg.TableSchema | None = None
    digest: str | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """The result of an earlier comparison.

    Attributes:
        digest: The digest of the declaration that all partitions fitted.
        up_to: The newest materialization that need not be read again, by its storage id.
        newest: The newest one that was compared, by its storage id.
        timestamp: When that was recorded.
    """

    digest: str
    up_to: int
    newest: int
    timestamp: float


class Materializations:
    """An asset's materializations by partition; each is read at most once.

    Args:
        instance: The Dagster instance with the event log.
        asset_key: The asset's key.
        dataset: Its dataset, whose partitions definition gives the order in time.
    """

    def __init__(self, instance: dg.DagsterInstance, asset_key: dg.AssetKey, dataset: FoundryDataset) -> None:
        self.instance, self._asset_key, self._dataset = instance, asset_key, dataset
        self._metadata: dict[str, Mapping[str, Any]] = {}

    @cached_property
    def stored(self) -> set[str]:
        """The keys of all partitions that were ever materialized."""
        return self.instance.get_materialized_partitions(self._asset_key)

    @cached_property
    def ordered(self) -> list[str]:
        """The stored partitions in time order, without those that the definition no longer has."""
        return [key for key in self._dataset.partitions_def.get_partition_keys() if key in self.stored]

    @cached_property
    def recorded(self) -> Mapping[str, Recorded]:
        """What the latest materialization of each stored partition recorded."""
        return read_recorded(
            self.instance, self._asset_key, known=last_comparison(self.instance, self._asset_key, self._dataset)
        )

    def of_run(self, tags: Mapping[str, str]) -> Sequence[str]:
        """The partitions of a run, by its tags; the latest stored one if the run has no partition of the dataset."""
        return self.asked_for(tags) or self.ordered[-1:]

    def asked_for(self, tags: Mapping[str, str]) -> Sequence[str]:
        """The partitions of a run's key or range; none if the run has no partition of the dataset."""
        partitions_def = self._dataset.partitions_def
        bounds = first_and_last(tags)
        if bounds is None or not all(map(partitions_def.has_partition_key, bounds)):
            return []
        return partitions_def.get_partition_keys_in_range(dg.PartitionKeyRange(*bounds))

    def previous(self, partition: str) -> str | None:
        """The nearest earlier partition that is stored, whenever it was materialized."""
        earlier = self.ordered[: self.ordered.index(partition)] if partition in self.ordered else []
        return earlier[-1] if earlier else None

    def value(self, partition: str, name: str) -> object:
        """A metadata value of the latest materialization of a stored partition, or None if it has none."""
        return self._values(partition).get(name)

    def rows(self, partition: str) -> int | None:
        """The number of stored rows, under any name that IO managers use for it."""
        return rows_of(self._values(partition))

    def _values(self, partition: str) -> Mapping[str, Any]:
        if partition not in self._metadata:
            records_filter = dg.AssetRecordsFilter(asset_key=self._asset_key, asset_partitions=[partition])
            records = self.instance.fetch_materializations(records_filter, limit=1).records
            self._metadata[partition] = values_of(records[0].asset_materialization if records else None)
        return self._metadata[partition]

    def schema(self, partition: str) -> dg.TableSchema | None:
        """The stored columns."""
        schema = self.value(partition, COLUMN_SCHEMA)
        return schema if isinstance(schema, dg.TableSchema) else None


def read_recorded(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    partitions: Iterable[str] | None = None,
    known: Known | None = None,
) -> dict[str, Recorded]:
    """Read what the latest materializations of an asset's partitions recorded.

    Args:
        instance: The Dagster instance.
        asset_key: The asset.
        partitions: The partitions; all if None.
        known: An earlier comparison: for the materializations that it covers, only the digest is returned.

    Returns:
        Partition key → what its latest materialization recorded, for the partitions that have one.
    """
    wanted = None if partitions is None else set(partitions)
    if wanted is not None and not wanted:
        return {}
    latest = latest_materializations(instance, asset_key, wanted)
    found: dict[str, Recorded] = {}
    if known is not None:
        found = {
            key: Recorded(each, known.timestamp if each == known.newest else None, digest=known.digest)
            for key, each in latest.items()
            if each <= known.up_to
        }
    ids = sorted(each for key, each in latest.items() if key not in found)
    for first in range(0, len(ids), _RECORDS_AT_ONCE):
        chunk = ids[first : first + _RECORDS_AT_ONCE]
        records_filter = dg.AssetRecordsFilter(asset_key=asset_key, storage_ids=chunk)
        for record in instance.fetch_materializations(records_filter, limit=len(chunk)).records:
            if record.asset_materialization is not None and record.partition_key is not None:
                metadata = values_of(record.asset_materialization)
                found[record.partition_key] = _recorded(record.storage_id, record.timestamp, metadata)
    return found


def recorded_in_run(instance: dg.DagsterInstance, run_id: str, asset_key: dg.AssetKey) -> list[str]:
    """The partitions of an asset that a run has recorded as materialized so far."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    found = [record.asset_materialization for record in records]
    return [each.partition for each in found if each and each.asset_key == asset_key and each.partition]


def last_comparison(instance: dg.DagsterInstance, asset_key: dg.AssetKey, dataset: FoundryDataset) -> Known | None:
    """Read how far the check had come when it last passed for the present declaration; None if it has not."""
    passed = last_passed(instance, dg.AssetCheckKey(asset_key, DECLARATION_CHECK))
    if passed is None:
        return None
    metadata, digest = passed.metadata, declaration_of(dataset).digest
    declaration, up_to = (_mapping(metadata.get(name)) for name in (DECLARATION, COMPARED_UP_TO))
    newest, timestamp = up_to.get("newest"), up_to.get("timestamp")
    if declaration.get("digest") != digest or up_to.get("of") != not_compared(dataset) or not isinstance(newest, int):
        return None
    # SQLite reuses ids after the newest records were deleted. While this record exists, no id before it was reused.
    records_filter = dg.AssetRecordsFilter(asset_key=asset_key, storage_ids=[newest])
    found = instance.fetch_materializations(records_filter, limit=1).records
    if not found or found[0].timestamp != timestamp:
        return None
    return Known(digest, newest - _LATECOMERS, newest, found[0].timestamp)


def not_compared(dataset: FoundryDataset) -> str:
    """The settings that decide which partitions are left out of the comparison, and are not part of the declaration."""
    if dataset.start is not None:
        return dataset.start.isoformat()
    return dataset.partitions_def.get_serializable_unique_identifier()


def _mapping(value: object) -> Mapping[str, Any]:
    return value.data if isinstance(value, dg.JsonMetadataValue) and isinstance(value.data, Mapping) else {}


def _recorded(storage_id: int, timestamp: float, metadata: Mapping[str, Any]) -> Recorded:
    columns, declaration = metadata.get(COLUMN_SCHEMA), metadata.get(DECLARATION)
    parts = declaration if isinstance(declaration, Mapping) else {}
    digest = parts.get("digest")
    return Recorded(
        storage_id,
        timestamp,
        _window(metadata.get(WINDOW_FROM), metadata.get(WINDOW_TO)),
        metadata.get(SLICE_ROWS) is not None,
        metadata.get(OUTSIDE_WINDOW) is True,
        columns if isinstance(columns, dg.TableSchema) else None,
        digest if isinstance(digest, str) else None,
        parts,
    )


def _window(start: object, end: object) -> Window | None:
    if not isinstance(start, float) or not isinstance(end, float):
        return None
    try:
        return Window(dt.datetime.fromtimestamp(start, UTC), dt.datetime.fromtimestamp(end, UTC))
    except (ValueError, OverflowError, OSError):
        return None
