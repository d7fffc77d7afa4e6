"""Reads a stored file lazily, and only the version of it that was opened, whatever replaces it in the meantime."""

from __future__ import annotations

import atexit
import errno
import functools
import itertools
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import polars as pl

from fdtcc_dagster.client.spool import spool_directory, tidy

if TYPE_CHECKING:
    from upath import UPath

try:
    import resource
except ImportError:  # such a system has another limit
    resource = None  # type: ignore[assignment]

_SHARE = 4
"""Polars 2 opens each file three times while it reads many at once, and others need descriptors, too."""
_LIMIT_WITHOUT_RESOURCE = 512
_numbers = itertools.count()


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself.

    Attributes:
        metadata: Its key-value metadata.
        schema: The columns.
        rows: How many rows there are.
        size_bytes: How many bytes the file has.
    """

    metadata: Mapping[str, str]
    schema: pl.Schema
    rows: int
    size_bytes: int

    @classmethod
    def of(cls, file: IO[bytes], size_bytes: int | None = None) -> Footer:
        """Read it from an open file, which must be one and the same version for all of it.

        Args:
            file: The file, or the end of it.
            size_bytes: The size of the file, if only its end is given.
        """
        size = file.seek(0, os.SEEK_END) if size_bytes is None else size_bytes
        file.seek(0)
        frame = pl.scan_parquet(file)
        rows = int(frame.select(pl.len()).collect().item())
        return cls(pl.read_parquet_metadata(file), frame.collect_schema(), rows, size)


def scan(path: Path, links_in: Path | None = None) -> pl.LazyFrame:
    """Read a Parquet file lazily, as it is now.

    By its path, Polars would open it again whenever rows are requested, and apply what it knows of one version to
    another. So it gets the open file, and its descriptor is closed with the last LazyFrame that needs it. When a
    quarter of the descriptors of the process are in use, a hard link takes the place of the descriptor: a name that is
    never given to another file. Links are removed when the process ends. See ADR 18.

    Args:
        path: The file. No character of it has a special meaning.
        links_in: A directory of the same file system for the links; that of the file if None.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be opened, for example because too many files are open.
    """
    try:
        with path.open("rb") as file:
            link = _link(path, links_in or path.parent) if _held(file) >= _most_held() else None
            return pl.scan_parquet(link or file, glob=False, hive_partitioning=False)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        advice = "too many files are read at once: raise the limit of open files (ulimit -n), or read fewer partitions"
        raise OSError(error.errno, advice, str(path)) from error


def _held(file: IO[bytes]) -> int:
    """How many descriptors are in use: each new one gets the lowest free number."""
    probe = os.dup(file.fileno())
    os.close(probe)
    return probe


def _most_held() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else _LIMIT_WITHOUT_RESOURCE
    # Without a limit, there is still one of the system.
    return (limit if limit > 0 else 1 << 20) // _SHARE


def _link(path: Path, links_in: Path) -> Path | None:
    """Give a file a name of this process alone; None if the directory or its file system does not allow it."""
    try:
        # Absolute, as Polars makes another path of one that begins with `~`.
        link = _links_in(links_in.absolute(), os.getpid()) / str(next(_numbers))
        # Python links a symbolic link itself, and not what it leads to.
        os.link(path.resolve(), link)
    except OSError:
        return None
    return link


@functools.cache
def _links_in(directory: Path, process: int) -> Path:
    """A directory for the links of a process, on the file system of the files."""
    stack = ExitStack()
    links = stack.enter_context(spool_directory(directory))
    atexit.register(_in_process, process, stack.close)
    return links


def _in_process(process: int, function: Callable[[], None]) -> None:
    """Call a function, but not in a process that was forked from the one that it is for."""
    if os.getpid() == process:
        function()


def footer_of(path: Path) -> Footer:
    """Read what a stored file says about itself."""
    # Where nothing is stored again, nobody else would remove what a killed run has left.
    tidy(path.parent)
    with path.open("rb") as file:
        return Footer.of(file)


def as_asked(frame: pl.LazyFrame, metadata: Mapping[str, Any]) -> pl.LazyFrame:
    """Apply the options of dagster-polars in the metadata of an input; others of them change no row."""
    if (rows := metadata.get("n_rows")) is not None:
        frame = frame.head(rows)
    if (name := metadata.get("row_index_name")) is not None:
        frame = frame.with_row_index(name, metadata.get("row_index_offset", 0))
    return frame


def read_all(rows: pl.LazyFrame, path: UPath) -> None:
    """Read all values of a file that has no checksum."""
    try:
        rows.select(pl.all().null_count()).collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ValueError(f"{path} is damaged: it cannot be read to its end ({type(error).__name__})") from error
