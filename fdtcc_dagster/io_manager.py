"""Partitions as Parquet files, each replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

import dagster as dg
import polars as pl
from dagster_polars import PolarsParquetIOManager
from dagster_polars.io_managers import parquet as dagster_polars_parquet

from fdtcc_dagster.asset_keys import check_asset_key
from fdtcc_dagster.client.errors import FdtccError
from fdtcc_dagster.client.parsing import source_errors
from fdtcc_dagster.client.stopping import stop_scans
from fdtcc_dagster.client.temporary import part_of, remove_leftovers
from fdtcc_dagster.failures import failure, interrupts_end_the_run
from fdtcc_dagster.storing import STORED, StoredPartition
from fdtcc_dagster.waiting import interruptibly

if TYPE_CHECKING:
    from upath import UPath

_OS_ERROR = re.compile(r"\(os error (\d+)\)")


class FoundryParquetIOManager(PolarsParquetIOManager):
    """Keeps `<base_dir>/<asset key>/<partition key>.parquet`.

    It is dagster-polars' Parquet IO manager (inputs as `polars.LazyFrame` or `polars.DataFrame`; several partitions as
    a dict of key → frame; `columns` in the input's metadata selects columns), with these differences: it reads with
    Polars 1 and 2; a file is written beside its place, flushed to the disk and then moved there, so a failure, a crash
    or a power failure leaves the previous file as it was; each partition of a Foundry dataset is stored while its rows
    arrive, and its file says where they come from; and no rows or statistics of the data are put into the event log.

    `base_dir` is a directory or a URL that universal-pathlib knows; by default the storage directory of the Dagster
    instance.
    """

    # Older versions of dagster-polars declare it as a field, and lose its value.
    extension: ClassVar[str | None] = ".parquet"  # type: ignore[misc]  # a field in UPathIOManager

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
        rows = self._replace(frame, path, provenance)
        return {**_described(path, rows), "foundry/store_seconds": round(time.monotonic() - started, 3)}

    def stored_partition(self, asset_key: dg.AssetKey, partition_key: str) -> StoredPartition | None:
        """Say what is stored as a partition.

        Args:
            asset_key: The asset.
            partition_key: The partition.

        Returns:
            What its file says, or None if there is no file, or none that can be read on this machine.
        """
        path = self._partition_path(asset_key, partition_key)
        if not _is_local(path) or not path.exists():
            return None
        # Where nothing is stored again, nobody else would remove what a killed run has left.
        remove_leftovers(Path(path.path).parent)
        try:
            frame = pl.scan_parquet(path.path)
            schema, rows = frame.collect_schema(), int(frame.select(pl.len()).collect().item())
            provenance = pl.read_parquet_metadata(path.path)
        except (OSError, pl.exceptions.PolarsError):
            return None
        return StoredPartition(provenance, schema, rows, _described(path, rows))

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
                rows = self._replace(df, path)
        except FdtccError as error:
            raise failure(error) from error
        name = "dagster/partition_row_count" if context.has_asset_partitions else "dagster/row_count"
        context.add_output_metadata({name: rows, "foundry/store_seconds": round(time.monotonic() - started, 3)})

    def _replace(self, df: pl.LazyFrame, path: UPath, provenance: Mapping[str, str] | None = None) -> int:
        """Write a file as a whole or not at all, and count its rows."""
        if not _is_local(path):
            # An object store shows an object when it has been uploaded as a whole.
            return _sink(df, str(path), str(path), self._polars_options(), provenance)
        target = Path(path.path)
        with part_of(target) as part:
            # An open file: by its path, Polars may create it in the background after it has reported a failure.
            with part.open("xb") as file:
                rows = _sink(df, file, str(part), None, provenance)
                _flush_to_disk(file.fileno(), part)
            part.replace(target)
            _flush_directory(target.parent)
        return rows

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
        return pl.scan_parquet(str(path), storage_options=None if _is_local(path) else self._polars_options())

    def get_metadata(self, context: dg.OutputContext, obj: object) -> dict[str, dg.MetadataValue]:
        """Add nothing to what `sink_df_to_path` recorded: the event log is no place for rows of the data."""
        return {}

    def _polars_options(self) -> dict[str, Any] | None:
        # From fsspec's names of storage options to those of Polars, where this version of dagster-polars has it.
        remap = getattr(dagster_polars_parquet, "_remap_fsspec_storage_options", None)
        options: dict[str, Any] | None = remap(self.storage_options) if remap else self.storage_options
        return options or None


def _is_local(path: UPath) -> bool:
    return not getattr(path, "protocol", "") or path.protocol in ("file", "local")


def _flush_to_disk(descriptor: int, path: Path) -> None:
    """Wait until a file is on the disk: moved before, a power failure may leave it empty and the previous one gone."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _flush_directory(directory: Path) -> None:
    """Wait until a move is on the disk, where the system can say so; its file is whole before and after."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _described(path: UPath, rows: int) -> dict[str, Any]:
    return {"path": dg.MetadataValue.path(str(path)), "dagster/partition_row_count": rows}


def _sink(
    df: pl.LazyFrame,
    target: str | IO[bytes],
    path: str,
    options: dict[str, Any] | None,
    provenance: Mapping[str, str] | None,
) -> int:
    """Write Parquet, and count its rows in its footer."""

    def sink() -> None:
        try:
            with source_errors():
                df.sink_parquet(
                    target,
                    compression="zstd",
                    storage_options=options,
                    metadata=dict(provenance) if provenance else None,
                )
        except pl.exceptions.ComputeError as error:
            # Polars calls a full disk a Parquet file that is "out of specification".
            if cause := _OS_ERROR.search(str(error)):
                raise OSError(int(cause[1]), os.strerror(int(cause[1])), path) from error
            raise

    interruptibly(sink, stop_scans)
    return int(pl.scan_parquet(path, storage_options=options).select(pl.len()).collect().item())
