"""The file of one partition, in a directory or in an object store: stored, described, and verified."""

from __future__ import annotations

import errno
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from fdtcc_dagster.metadata import FILE_CHECKSUM, ROW_COUNT, STORE_SECONDS, STORED_BYTES, URI, preview
from fdtcc_dagster.storage import checksums, object_store, reading
from fdtcc_dagster.storage.object_store import is_local
from fdtcc_dagster.storage.publishing import publish
from fdtcc_dagster.storage.store_errors import StoreRefusedError, refusals_explained
from fdtcc_dagster.storing import StoredPartition

if TYPE_CHECKING:
    from upath import UPath


def store(path: UPath, frame: pl.LazyFrame, provenance: Mapping[str, str] | None, preview_rows: int) -> dict[str, Any]:
    """Store rows as a whole, and describe what is stored."""
    started = time.monotonic()
    published = publish(frame, path, provenance, first_rows=preview_rows)
    return {
        **_described(path, published.rows, published.size_bytes, published.checksum),
        **preview(published.first),
        STORE_SECONDS: round(time.monotonic() - started, 3),
    }


def check_writable(path: UPath) -> None:
    """Make sure that a file can be stored, by one without a name; an object store is asked."""
    if not is_local(path):
        object_store.check_access(path)
        return
    directory = Path(path.path).absolute().parent
    existing = next(each for each in (directory, *directory.parents) if each.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        if error.errno == errno.ENOSPC:  # there may be room when it is needed
            return
        raise type(error)(
            error.errno,
            f"{directory} cannot be written to ({error.strerror}); set base_dir to a directory that this user can "
            "write to",
        ) from error


def stored(path: UPath) -> StoredPartition | None:
    """Say what is stored, from the footer; None if nothing is, or not the rows that were stored."""
    try:
        footer = object_store.footer_of(path) if not is_local(path) else reading.footer_of(Path(path.path))
    except StoreRefusedError:
        raise
    except (OSError, pl.exceptions.PolarsError):
        return None
    if checksums.rows_of(footer.metadata) not in (None, footer.rows):
        return None
    checksum = checksums.checksum_of(footer.metadata)
    described = _described(path, footer.rows, footer.size_bytes, checksum)
    return StoredPartition(footer.metadata, footer.schema, footer.rows, described)


def verify(path: UPath) -> str | None:
    """Read a file to its end, and return its checksum; None if it was stored without one."""
    with refusals_explained(path), path.open("rb") as file:
        said, found = checksums.read_to_end(file)
    if said is None:
        reading.read_all(scan(path), path)
    elif said != found:
        raise ValueError(f"{path} is damaged: its checksum is {found}, and it was stored with {said}")
    return said


def scan(path: UPath) -> pl.LazyFrame:
    """Read a file lazily, as it is now."""
    return reading.scan(Path(path.path)) if is_local(path) else object_store.scan(path)


def uri_of(path: UPath) -> str:
    """The URI of a file."""
    return Path(path.path).absolute().as_uri() if is_local(path) else str(path)


def _described(path: UPath, rows: int, size_bytes: int, checksum: str | None) -> dict[str, Any]:
    described = {
        ROW_COUNT: rows,
        STORED_BYTES: size_bytes,
        "path": dg.MetadataValue.path(str(path)),
        URI: uri_of(path),
    }
    return described if checksum is None else {**described, FILE_CHECKSUM: checksum}
