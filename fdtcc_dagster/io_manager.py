"""Partitions as Parquet files, each replaced as a whole or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import dagster as dg
import polars as pl
from dagster_polars import PolarsParquetIOManager

from fdtcc_dagster import object_store
from fdtcc_dagster.asset_keys import check_asset_key
from fdtcc_dagster.client.errors import FdtccError
from fdtcc_dagster.client.temporary import remove_leftovers
from fdtcc_dagster.failures import failure, interrupts_end_the_run
from fdtcc_dagster.object_store import is_local
from fdtcc_dagster.publishing import publish
from fdtcc_dagster.storing import STORED, StoredPartition

if TYPE_CHECKING:
    from upath import UPath


class FoundryParquetIOManager(PolarsParquetIOManager):
    """Keeps `<base_dir>/<asset key>/<partition key>.parquet`.

    It is dagster-polars' Parquet IO manager (inputs as `polars.LazyFrame` or `polars.DataFrame`; several partitions as
    a dict of key → frame; `columns` in the input's metadata selects columns), with these differences: it reads with
    Polars 1 and 2; a file is written aside, verified, and then put to its place as a whole, so a failure, a crash or a
    power failure leaves the previous one as it was; each partition of a Foundry dataset is stored while its rows
    arrive, and its file says where they come from; and no rows or statistics of the data are put into the event log.

    `base_dir` is a directory, or the URL of a place in S3, Google's or Azure's object store; by default the storage
    directory of the Dagster instance. `storage_options` are those of the object store's fsspec implementation.
    """

    # Older versions of dagster-polars declare it as a field, and lose its value.
    extension: ClassVar[str | None] = ".parquet"  # type: ignore[misc]  # a field in UPathIOManager

    def __init__(self, **data: Any) -> None:
        super().__init__(**data)
        # Otherwise it is known when it is used.
        if self.base_dir is not None and not isinstance(self.base_dir, dg.EnvVar):
            object_store.check_place(self.base_dir)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Open the store.

        Args:
            context: Dagster's context of the resource.

        Raises:
            ValueError: Partitions cannot be replaced as a whole in `base_dir`, or a storage option is not known.
            ImportError: The package of the object store is not installed.
        """
        if self.base_dir is not None:
            object_store.check_place(self.base_dir)
        super().setup_for_execution(context)
        object_store.check_options(self._base_path, self.cloud_storage_options or {})
        if is_local(self._base_path):
            from upath import UPath

            # Without `file://`, which not all of Polars and pathlib understand.
            self._base_path = UPath(self._base_path.path)

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Store an output: a frame, or for a run of several partitions a mapping of partition key → frame.

        Partitions of Foundry datasets are stored by `store_partition` before; their output is `STORED`, and nothing is
        done for it.

        Args:
            context: Dagster's context of the output.
            obj: The output.

        Raises:
            dagster.Failure: The rows are not as declared or announced; the previous file stays.
            ValueError: The run has several partitions, and the output is no mapping of just these.
        """
        if obj is STORED:
            return
        if not (context.has_asset_partitions and len(context.asset_partition_keys) > 1):
            super().handle_output(context, obj)
            return
        if not (isinstance(obj, Mapping) and sorted(obj) == sorted(context.asset_partition_keys)):
            raise ValueError(
                f"this run has the partitions {', '.join(context.asset_partition_keys)}: return a dict with a frame "
                "for each of them"
            )
        for key, frame in obj.items():
            self.store_partition(context.asset_key, key, frame.lazy())

    def make_directory(self, path: UPath) -> None:
        """Make the directory of a file that is to be stored.

        Args:
            path: The directory.

        Raises:
            ValueError: It is not in `base_dir`: part of an asset key or partition key is `..` or begins with a slash.
        """
        base = Path(os.path.normpath(self._base_path.path))
        if not Path(os.path.normpath(path.path)).is_relative_to(base):
            raise ValueError(f"an asset key or partition key leads out of {base}, to {path}; give it another key")
        # An object store has none, and fsspec would create the bucket.
        if is_local(path):
            super().make_directory(path)

    def store_partition(
        self,
        asset_key: dg.AssetKey,
        partition_key: str,
        frame: pl.LazyFrame,
        provenance: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Store one partition of an asset, whichever partitions the run has.

        Args:
            asset_key: The asset.
            partition_key: The partition.
            frame: Its rows.
            provenance: Where they come from; kept in the Parquet file's own metadata.

        Returns:
            Metadata: the path, the rows and the seconds that it took.

        Raises:
            FdtccError: The rows are not as declared or announced; the previous file stays.
            OSError: The file cannot be written; the previous file stays.
        """
        path = self._partition_path(asset_key, partition_key)
        self.make_directory(path.parent)
        started = time.monotonic()
        published = publish(frame, path, provenance)
        return {**_described(path, published.rows), "foundry/store_seconds": round(time.monotonic() - started, 3)}

    def stored_partition(self, asset_key: dg.AssetKey, partition_key: str) -> StoredPartition | None:
        """Say what is stored as a partition.

        Args:
            asset_key: The asset.
            partition_key: The partition.

        Returns:
            What its file says, or None if there is no file, or none that can be read.
        """
        path = self._partition_path(asset_key, partition_key)
        try:
            footer = object_store.footer_of(path) if not is_local(path) else _local_footer(Path(path.path))
        except (OSError, pl.exceptions.PolarsError):
            return None
        return StoredPartition(footer.metadata, footer.schema, footer.rows, _described(path, footer.rows))

    def get_asset_relative_path(self, context: dg.InputContext | dg.OutputContext) -> UPath:
        """Give the place of an asset in `base_dir`; a key that would share it with another one is an error."""
        check_asset_key(context.asset_key)
        return super().get_asset_relative_path(context)

    def _partition_path(self, asset_key: dg.AssetKey, partition_key: str) -> UPath:
        check_asset_key(asset_key)
        return self._with_extension(self._base_path.joinpath(*asset_key.path, partition_key))

    def sink_df_to_path(self, context: dg.OutputContext, df: pl.LazyFrame, path: UPath) -> None:
        """Store a LazyFrame, in flat memory.

        Args:
            context: Dagster's context of the output.
            df: The rows.
            path: The file's place.

        Raises:
            dagster.Failure: The rows are not as declared or announced; the previous file stays.
            OSError: The file cannot be written; the previous file stays.
        """
        started = time.monotonic()
        try:
            with interrupts_end_the_run(lambda: context.step_context.op_retry_policy):
                rows = publish(df, path).rows
        except FdtccError as error:
            raise failure(error) from error
        name = "dagster/partition_row_count" if context.has_asset_partitions else "dagster/row_count"
        context.add_output_metadata({name: rows, "foundry/store_seconds": round(time.monotonic() - started, 3)})

    def write_df_to_path(self, context: dg.OutputContext, df: pl.DataFrame, path: UPath) -> None:
        """Store a DataFrame; see `sink_df_to_path`."""
        self.sink_df_to_path(context, df.lazy(), path)

    def scan_df_from_path(
        self, path: UPath, context: dg.InputContext, partition_key: str | None = None
    ) -> pl.LazyFrame:
        """Read a stored partition, lazily.

        Args:
            path: The file's place.
            context: Dagster's context of the input.
            partition_key: Not used; the path says it.

        Returns:
            The rows.

        Raises:
            FileNotFoundError: The partition is not stored.
        """
        if not path.exists():
            raise FileNotFoundError(f"no partition is stored at {path}; materialize it first")
        return pl.scan_parquet(str(path)) if is_local(path) else object_store.scan(path)

    def get_metadata(self, context: dg.OutputContext, obj: object) -> dict[str, dg.MetadataValue]:
        """Add nothing to what `sink_df_to_path` recorded: the event log is no place for rows of the data."""
        return {}


def _local_footer(path: Path) -> object_store.Footer:
    # Where nothing is stored again, nobody else would remove what a killed run has left.
    remove_leftovers(path.parent)
    frame = pl.scan_parquet(path, glob=False)
    schema, rows = frame.collect_schema(), int(frame.select(pl.len()).collect().item())
    return object_store.Footer(pl.read_parquet_metadata(path), schema, rows)


def _described(path: UPath, rows: int) -> dict[str, Any]:
    return {"path": dg.MetadataValue.path(str(path)), "dagster/partition_row_count": rows}
