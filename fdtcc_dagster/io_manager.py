"""`FoundryParquetIOManager`: partitions as Parquet files, each replaced as a whole or not at all.

It is dagster-polars' Parquet IO manager (inputs as `polars.LazyFrame` or `polars.DataFrame`; several partitions as a
dict of key → frame; `columns` in the input's metadata selects columns), with these differences. It reads with Polars 1
and 2. A file is written elsewhere, verified, and then replaces the previous one as a whole, so a failure, a crash or a
power failure leaves the previous one as it was. Each partition of a Foundry dataset is stored while its rows arrive,
and its file says where they come from. No rows or statistics of the data are put into the event log.

`base_dir` is a directory, or the URL of a place in S3, Google's or Azure's object store; by default the storage
directory of the Dagster instance. `storage_options` are those of the object store's fsspec implementation; secrets
among them, at any depth, are given as `dg.EnvVar`.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_args

import dagster as dg
import polars as pl
from dagster_polars import PolarsParquetIOManager
from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from fdtcc_dagster.arguments import unless_variable, with_unknown_named
from fdtcc_dagster.dagster_internals import ConfigurableIOManagerFactoryResourceDefinition, retry_policy_of
from fdtcc_dagster.errors import FdtccError
from fdtcc_dagster.failures import failure, interrupts_end_the_run
from fdtcc_dagster.metadata import (
    COLUMN_SCHEMA,
    PARTITION_ROW_COUNT,
    ROW_COUNT,
    STORE_SECONDS,
    STORED_BYTES,
    URI,
    column_metadata,
    preview,
)
from fdtcc_dagster.names import check_asset_key
from fdtcc_dagster.secrets import refuse_plain_secrets, secret_options, with_values
from fdtcc_dagster.storage import object_store, partition_file, reading
from fdtcc_dagster.storage.object_store import is_local
from fdtcc_dagster.storage.outputs import frame_of, of_each
from fdtcc_dagster.storage.publishing import ParquetOptions, Published, publish
from fdtcc_dagster.storage.store_errors import StoreRefusedError
from fdtcc_dagster.storing import STORED, StoredPartition

if TYPE_CHECKING:
    from typing_extensions import Self
    from upath import UPath


class FoundryParquetIOManager(PolarsParquetIOManager):
    """Keeps `<base_dir>/<asset key>/<partition key>.parquet`; a file is replaced as a whole or not at all."""

    # Dagster sends that docstring to the webserver five times for each job, so the rest is in the module's.

    # Older versions of dagster-polars declare it as a field, and lose its value.
    extension: ClassVar[str | None] = ".parquet"  # type: ignore[misc]  # a field in UPathIOManager
    cloud_storage_options: Mapping[str, Any] | None = Field(
        default=None,
        alias="storage_options",
        description="Options of the object store's fsspec implementation; secrets among them are EnvVars.",
        repr=False,
    )

    preview_rows: int = Field(
        default=0,
        ge=0,
        le=100,
        description="How many of the first rows of a partition are shown in Dagster's UI, as foundry/preview; "
        "0 by default, because whoever sees the event log would see them.",
    )

    # A misspelled option must not be passed over, and an error must not show what stands where a secret should.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _name_unknown(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        return with_unknown_named(cls, values, check)

    @field_validator("preview_rows", mode="wrap")
    @classmethod
    def _check_preview_rows(cls, value: object, check: ValidatorFunctionWrapHandler) -> object:
        return unless_variable("preview_rows", value, check, integer=True)

    def __init__(self, **data: Any) -> None:
        if isinstance(data.get("base_dir"), Path):
            data["base_dir"] = str(data["base_dir"])
        super().__init__(**data)
        # Otherwise it is known when it is used.
        if self.base_dir is not None and not isinstance(self.base_dir, dg.EnvVar):
            object_store.check_place(self.base_dir)

    def get_resource_definition(  # type: ignore[override]  # as in dagster's own class
        self,
    ) -> ConfigurableIOManagerFactoryResourceDefinition:
        """Give Dagster the definition, of which it stores the configuration and shows it in its UI.

        Returns:
            The definition.

        Raises:
            dagster.DagsterInvalidDefinitionError: A secret of `storage_options` is not an `EnvVar`.
        """
        options = {"storage_options": secret_options(self.cloud_storage_options)}
        refuse_plain_secrets("FoundryParquetIOManager", options)
        return super().get_resource_definition()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Open the store.

        Args:
            context: Dagster's context of the resource.

        Raises:
            ValueError: Partitions cannot be replaced as a whole in `base_dir`, a storage option is not known, or its
                environment variable is not set.
            ImportError: The package of the object store is not installed.
        """
        if self.base_dir is not None:
            object_store.check_place(self.base_dir)
        super().setup_for_execution(context)
        object_store.check_options(self._base_path, self.cloud_storage_options or {})
        from upath import UPath

        if is_local(self._base_path):
            # Without `file://` and `~`, which not all of Polars and pathlib understand, or each in its own way.
            self._base_path = UPath(os.path.expanduser(self._base_path.path))
        else:
            # A listing that is kept does not show what other processes have stored since.
            options = {"use_listings_cache": False, **with_values(self.cloud_storage_options or {})}
            self._base_path = UPath(str(self.base_dir), **options)

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Store an output: a frame, or a mapping of partition key → frame.

        Partitions of Foundry datasets are stored by `store_partition` before; their output is `STORED`, and nothing is
        done for it.

        Args:
            context: Dagster's context of the output.
            obj: The output. None is for assets whose type is `Optional[...]`: nothing is stored, and what was stored
                before stays.

        Raises:
            dagster.Failure: The rows are not as declared or announced, or an object store refuses access; the previous
                file stays. With Polars 1, the rows of a LazyFrame that the asset has made by `Snapshot.scan` raise
                `polars.exceptions.ComputeError` with the same text: see ADR 2.
            TypeError: The output is neither a Polars frame nor such a mapping.
            ValueError: The output is a mapping of other keys than the run's partitions; or the run has several, and the
                output is no mapping; or its metadata have an option that cannot be followed.
        """
        if obj is STORED:
            return
        keys = list(context.asset_partition_keys) if context.has_asset_partitions else []
        if obj is None and type(None) in get_args(context.dagster_type.typing_type):
            context.log.warning("The output is None: nothing is stored, and what was stored before stays")
            return
        each = keys and (isinstance(obj, Mapping) or len(keys) > 1)
        frames = [frame_of(frame, key) for key, frame in of_each(keys, obj)] if each else [frame_of(obj, "the output")]
        if len(frames) == 1:
            super().handle_output(context, frames[0])
            return
        paths, schemas = self._get_paths_for_partitions(context), []
        for key, frame in zip(keys, frames, strict=True):
            self.make_directory(paths[key].parent)
            schemas.append(self._store(context, frame.lazy(), paths[key]).schema)
        # One set of metadata serves all partitions of the run.
        if all(schema == schemas[0] for schema in schemas):
            context.add_output_metadata(_column_schema(context, schemas[0]))

    def get_path_for_partition(self, context: dg.InputContext | dg.OutputContext, path: UPath, partition: str) -> UPath:
        """Say where a partition is stored.

        Args:
            context: Dagster's context.
            path: The asset's directory.
            partition: The partition key; of several dimensions, their keys with slashes in between.

        Returns:
            The place, without the extension.

        Raises:
            ValueError: The key begins or ends with a slash, or has a part that a file system takes for a directory, or
                an object store for a version or another store.
        """
        if any(part in ("", ".", "..") for part in partition.split("/")):
            raise ValueError(
                f"the partition key {partition!r} of {context.asset_key.to_user_string()!r} cannot be a path: between "
                "slashes, no part of it may be empty, '.' or '..'"
            )
        if not is_local(path):
            object_store.check_key(f"the partition key {partition!r}", partition)
        return super().get_path_for_partition(context, path, partition)

    def _get_paths_for_partitions(self, context: dg.InputContext | dg.OutputContext) -> dict[str, UPath]:
        for key in context.asset_partition_keys:
            if isinstance(key, dg.MultiPartitionKey) and any("/" in part for part in key.keys_by_dimension.values()):
                raise ValueError(
                    f"the partition key {key} has a slash in one of its dimensions, by which it could have the file of "
                    "another key; give it another one"
                )
        paths: dict[str, UPath] = super()._get_paths_for_partitions(context)
        return paths

    def _handle_transition_to_partitioned_asset(self, context: dg.OutputContext, path: UPath) -> None:
        """Remove nothing: all files have an extension, so a file without one belongs to another asset."""

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
            Metadata: the rows, the bytes, the path and the seconds that it took.

        Raises:
            FdtccError: The rows are not as declared or announced; the previous file stays.
            OSError: The file cannot be written; the previous file stays.
        """
        path = self._partition_path(asset_key, partition_key)
        self.make_directory(path.parent)
        return partition_file.store(path, frame, provenance, self.preview_rows)

    def check_writable(self, asset_key: dg.AssetKey, partition_key: str) -> None:
        """Make sure that a partition can be stored, by a file without a name; an object store is asked.

        Args:
            asset_key: The asset.
            partition_key: The partition.

        Raises:
            OSError: Its directory cannot be made or written to, or the object store refuses access.
            ValueError: A key cannot be a path.
        """
        partition_file.check_writable(self._partition_path(asset_key, partition_key))

    def stored_partition(self, asset_key: dg.AssetKey, partition_key: str) -> StoredPartition | None:
        """Say what is stored as a partition.

        Args:
            asset_key: The asset.
            partition_key: The partition.

        Returns:
            What its file says, or None if there is no file, none that can be read, or one that has not the rows that
            were stored.

        Raises:
            StoreRefusedError: The object store refuses access: that says nothing about what is stored.
        """
        return partition_file.stored(self._partition_path(asset_key, partition_key))

    def verify_partition(self, asset_key: dg.AssetKey, partition_key: str) -> str | None:
        """Read a stored partition to its end.

        Args:
            asset_key: The asset.
            partition_key: The partition.

        Returns:
            The checksum of its file; None if it was stored without one, and then all its values can be read at least.

        Raises:
            FileNotFoundError: It is not stored.
            ValueError: Its file is damaged.
            OSError: Its file cannot be read.
        """
        return partition_file.verify(self._partition_path(asset_key, partition_key))

    def get_asset_relative_path(self, context: dg.InputContext | dg.OutputContext) -> UPath:
        """Give the place of an asset in `base_dir`; a key that would share it with another one is an error."""
        check_asset_key(context.asset_key)
        if not is_local(self._base_path):
            for part in context.asset_key.path:
                object_store.check_key(f"the asset key {list(context.asset_key.path)!r}", part)
        return super().get_asset_relative_path(context)

    def _partition_path(self, asset_key: dg.AssetKey, partition_key: str) -> UPath:
        # By Dagster's own function, as its readers take it.
        context = cast(dg.OutputContext, _Partition(asset_key, [partition_key]))
        return self._get_paths_for_partitions(context)[partition_key]

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
        published = self._store(context, df, path)
        name = PARTITION_ROW_COUNT if context.has_asset_partitions else ROW_COUNT
        context.add_output_metadata(
            {
                name: published.rows,
                STORED_BYTES: published.size_bytes,
                URI: partition_file.uri_of(path),
                STORE_SECONDS: round(time.monotonic() - started, 3),
                **_column_schema(context, published.schema),
                **preview(published.first),
            }
        )

    def _store(self, context: dg.OutputContext, df: pl.LazyFrame, path: UPath) -> Published:
        """Store a frame in a step; a failure or an interrupt ends the step."""
        options = ParquetOptions.of(context.definition_metadata)
        try:
            with interrupts_end_the_run(lambda: retry_policy_of(context)):
                return publish(df, path, options=options, first_rows=self.preview_rows)
        except (FdtccError, StoreRefusedError) as error:
            raise failure(error) from error

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
            The rows as they are stored now, also where the partition is replaced before they are collected.

        Raises:
            FileNotFoundError: The partition is not stored.
            StoreRefusedError: The object store refuses access.
        """
        try:
            rows = partition_file.scan(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"no partition is stored at {path}; materialize it first") from error
        return reading.as_asked(rows, context.definition_metadata or {})

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Any:
        """Load a stored partition; `columns` in the input's metadata are names, and never patterns.

        Args:
            context: Dagster's context of the input.
            path: The file's place.

        Returns:
            The rows, as a LazyFrame or a DataFrame.
        """
        metadata = dict(context.definition_metadata or {})
        columns = metadata.pop("columns", None)
        if not any(_is_pattern(column) for column in columns or []):
            return super().load_from_path(context, path)
        without = copy.copy(context)
        without._definition_metadata = metadata
        frame = super().load_from_path(without, path)
        if not isinstance(frame, (pl.DataFrame, pl.LazyFrame)):
            return frame
        names = frame.collect_schema().names()
        return frame.select(pl.nth([names.index(column) for column in columns]))

    def get_metadata(self, context: dg.OutputContext, obj: object) -> dict[str, dg.MetadataValue]:
        """Add nothing to what `sink_df_to_path` recorded: the event log is no place for rows of the data."""
        return {}


def _is_pattern(column: object) -> bool:
    """Whether Polars would read a column's name as a pattern."""
    return isinstance(column, str) and (column == "*" or (column.startswith("^") and column.endswith("$")))


@dataclass(frozen=True)
class _Partition:
    """What Dagster's function for paths asks of a context."""

    asset_key: dg.AssetKey
    asset_partition_keys: list[str]
    has_asset_key: bool = True
    has_asset_partitions: bool = True


def _column_schema(context: dg.OutputContext, schema: pl.Schema) -> dict[str, dg.MetadataValue]:
    """The columns for the UI, unless the asset has given them itself."""
    return {} if COLUMN_SCHEMA in (context.output_metadata or {}) else column_metadata(schema)
