"""Parquet files that are stored as a whole or not at all: written elsewhere, verified, then published."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import polars as pl

from fdtcc_dagster.client.spool import part_of, spool_directory
from fdtcc_dagster.interrupts import interruptibly, watch_stops
from fdtcc_dagster.pandas_csv.mismatch import without_panics
from fdtcc_dagster.storage import checksums
from fdtcc_dagster.storage.object_store import is_local, put
from fdtcc_dagster.storage.reading import Footer

if TYPE_CHECKING:
    from upath import UPath

_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@dataclass(frozen=True)
class ParquetOptions:
    """How a file is written: dagster-polars' options in the metadata of an output.

    Attributes:
        compression: Polars' name of it.
        compression_level: The level, or None for the default one.
        statistics: Whether there are statistics of the columns, or of which kinds.
        row_group_size: Rows per row group, or None for the default.
    """

    compression: Any = "zstd"
    compression_level: int | None = None
    statistics: Any = True
    row_group_size: int | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, Any] | None) -> ParquetOptions:
        """Take the options from the metadata of an asset or output, as it was defined.

        Raises:
            ValueError: It has `pyarrow_options`, with which another library would write the file.
        """
        metadata = metadata or {}
        if "pyarrow_options" in metadata:
            raise ValueError(
                "the output's metadata have pyarrow_options, but FoundryParquetIOManager writes by Polars: use "
                f"{', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**{name: metadata[name] for name in cls.__dataclass_fields__ if name in metadata})


@dataclass(frozen=True)
class Published:
    """What has been stored, according to its file.

    Attributes:
        rows: How many rows there are.
        schema: The columns.
        size_bytes: How many bytes the file has.
        checksum: The checksum of the file; see `fdtcc_dagster.storage.checksums`.
        first: Its first rows, if any were asked for.
    """

    rows: int
    schema: pl.Schema
    size_bytes: int
    checksum: str
    first: pl.DataFrame | None


def publish(
    df: pl.LazyFrame,
    path: UPath,
    provenance: Mapping[str, str] | None = None,
    options: ParquetOptions = ParquetOptions(),
    first_rows: int = 0,
) -> Published:
    """Store a frame in flat memory, as a whole or not at all: after any failure, the previous file is still there.

    Args:
        df: The rows.
        path: The place, in an existing directory or in an object store.
        provenance: What the file says about where its rows come from.
        options: How it is written.
        first_rows: How many of its first rows are wanted.

    Raises:
        FdtccError: The rows are not as declared or announced.
        OSError: The file cannot be written.
        BaseException: What interrupted this thread.
    """
    stopped = watch_stops()
    if is_local(path):
        target = Path(path.path)
        with part_of(target) as part:
            published = _write(df, part, target, provenance, options, first_rows, durable=True)
            if stopped():
                raise RuntimeError("storing was stopped")
            part.replace(target)
            _flush_directory(target.parent)
        return published
    with spool_directory() as spool:
        part = spool / "partition.parquet"
        published = _write(df, part, part, provenance, options, first_rows, durable=False)
        interruptibly(lambda: put(part, path, stopped))
    return published


def publish_file(file: Path, target: Path) -> None:
    """Move a file that is complete and verified to its place, as a whole or not at all.

    Args:
        file: The file, on the same file system as the target.
        target: Its place, in an existing directory.

    Raises:
        OSError: It cannot be moved, or does not reach the disk.
    """
    with file.open("rb") as opened:
        _flush_to_disk(opened.fileno(), target)
    file.replace(target)
    _flush_directory(target.parent)


def _write(
    df: pl.LazyFrame,
    part: Path,
    target: Path,
    provenance: Mapping[str, str] | None,
    options: ParquetOptions,
    first_rows: int,
    *,
    durable: bool,
) -> Published:
    """Write a file, read its footer, and add to it what was written."""
    # An open file: by its path, Polars may create it in the background after it has reported a failure.
    with part.open("xb") as file:
        said = {**(provenance or {}), **checksums.PLACES}
        interruptibly(lambda: _sink(df, file, target, said, options))
        # Open as well: of a path that begins with `~`, Polars makes another one.
        with part.open("rb") as readable:
            footer = Footer.of(readable)
            readable.seek(0)
            first = pl.read_parquet(readable, n_rows=first_rows) if first_rows else None
        checksum = checksums.complete(part, footer.rows)
        if durable:
            _flush_to_disk(file.fileno(), target)
    return Published(footer.rows, footer.schema, footer.size_bytes, checksum, first)


def _sink(df: pl.LazyFrame, file: IO[bytes], target: Path, said: Mapping[str, str], options: ParquetOptions) -> None:
    try:
        with without_panics():
            df.sink_parquet(file, **asdict(options), metadata=dict(said))
    except pl.exceptions.ComputeError as error:
        # Polars calls a full disk a Parquet file that is "out of specification".
        if cause := _OS_ERROR.search(str(error)):
            raise OSError(int(cause[1]), os.strerror(int(cause[1])), str(target)) from error
        raise


def _flush_to_disk(descriptor: int, target: Path) -> None:
    """Wait until a file is on the disk: moved before, a power failure may leave it empty and the previous one gone."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error


def _flush_directory(directory: Path) -> None:
    """Wait until a move is on the disk, if the system can tell; the file is whole before and after."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
