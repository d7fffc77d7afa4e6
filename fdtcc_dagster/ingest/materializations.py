"""Which partitions of a dataset are stored, and what their latest materializations recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import dagster as dg

from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.ingest.recorded import Recorded, last_comparison, read_recorded
from fdtcc_dagster.metadata import COLUMN_SCHEMA, PARTITION_ROW_COUNT, ROW_COUNT, first_and_last

# The last is the name that Dagster's own managers of database tables use.
_ROW_COUNTS = (PARTITION_ROW_COUNT, ROW_COUNT, "row_count")


class Materializations:
    """An asset's materializations by partition; each is read at most once.

    Args:
        instance: The Dagster instance with the event log.
        asset_key: The asset's key.
        dataset: Its dataset, whose partitions definition gives the order in time.
    """

    def __init__(self, instance: dg.DagsterInstance, asset_key: dg.AssetKey, dataset: FoundryDataset) -> None:
        self.instance, self._asset_key, self._dataset = instance, asset_key, dataset
        self._metadata: dict[str, Mapping[str, dg.MetadataValue[Any]]] = {}

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
        if partition not in self._metadata:
            records_filter = dg.AssetRecordsFilter(asset_key=self._asset_key, asset_partitions=[partition])
            records = self.instance.fetch_materializations(records_filter, limit=1).records
            materialization = records[0].asset_materialization if records else None
            self._metadata[partition] = materialization.metadata if materialization else {}
        found = self._metadata[partition].get(name)
        return None if found is None else found.value

    def rows(self, partition: str) -> int | None:
        """The number of stored rows, under any name that IO managers use for it."""
        values = (self.value(partition, name) for name in _ROW_COUNTS)
        return next((value for value in values if isinstance(value, int)), None)

    def schema(self, partition: str) -> dg.TableSchema | None:
        """The stored columns."""
        schema = self.value(partition, COLUMN_SCHEMA)
        return schema if isinstance(schema, dg.TableSchema) else None
