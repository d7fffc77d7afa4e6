"""The protocols of an IO manager that stores the partitions of a run one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import dagster as dg
import polars as pl

STORED = pl.LazyFrame()
"""An output whose rows are stored already."""


@dataclass(frozen=True)
class StoredPartition:
    """What is stored as a partition.

    Attributes:
        provenance: What `store_partition` was given as provenance.
        schema: The columns.
        rows: How many rows there are.
        metadata: What `store_partition` returned of the place and the rows.
    """

    provenance: Mapping[str, str]
    schema: pl.Schema
    rows: int
    metadata: Mapping[str, Any]


@runtime_checkable
class StoresPartitions(Protocol):
    """An IO manager that stores partitions one by one, outside of an output, in several threads.

    When the partitions of a run are stored, its `handle_output` is called with `STORED`, and has nothing to do.
    """

    def store_partition(
        self,
        asset_key: dg.AssetKey,
        partition_key: str,
        frame: pl.LazyFrame,
        provenance: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        """Store one partition, whose rows may still be arriving.

        Args:
            asset_key: The asset.
            partition_key: The partition.
            frame: Its rows. Reading them to their end raises what is wrong with them, so what was stored before must
                stay until then.
            provenance: Where they come from, to be kept with them for `stored_partition`.

        Returns:
            Metadata of what was stored.
        """
        ...

    def stored_partition(self, asset_key: dg.AssetKey, partition_key: str) -> StoredPartition | None:
        """Say what is stored as a partition.

        Args:
            asset_key: The asset.
            partition_key: The partition.

        Returns:
            What is stored; None if that is nothing or is not known, and then the partition is pulled.
        """
        ...


@runtime_checkable
class ChecksPlaces(Protocol):
    """An IO manager that can say, before anything is pulled, whether a partition can be stored."""

    def check_writable(self, asset_key: dg.AssetKey, partition_key: str) -> None:
        """Check that a partition can be stored.

        Args:
            asset_key: The asset.
            partition_key: The partition.

        Raises:
            OSError: It cannot.
            ValueError: A key cannot be a path.
        """
        ...


@runtime_checkable
class VerifiesPartitions(Protocol):
    """An IO manager that can say whether a stored partition is still as it was stored."""

    def verify_partition(self, asset_key: dg.AssetKey, partition_key: str) -> str | None:
        """Read a stored partition to its end.

        Args:
            asset_key: The asset.
            partition_key: The partition.

        Returns:
            The checksum of what is stored, which is also `foundry/file_checksum` in the metadata of `store_partition`;
            None if it was stored without one, and then all of it can be read at least.

        Raises:
            FileNotFoundError: Nothing is stored.
            ValueError: What is stored is damaged.
            OSError: It cannot be read.
        """
        ...
