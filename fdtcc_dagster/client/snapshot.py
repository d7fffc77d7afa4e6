"""The result of a pull: one verified CSV, and what is known of it before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from fdtcc_dagster.client.protocol import Origin
from fdtcc_dagster.client.spool_file import SpoolFile
from fdtcc_dagster.evidence import Evidence
from fdtcc_dagster.pandas_csv.blocks import MAX_RECORD_BYTES, Readable
from fdtcc_dagster.pandas_csv.schema import SchemaLike, to_schema
from fdtcc_dagster.pandas_csv.source import CsvSource
from fdtcc_dagster.window import Window


@dataclass(frozen=True)
class Announcement:
    """What the container said at the end of a conversation: which snapshot a dataset has in a window.

    Attributes:
        dataset: The dataset's name.
        window: The window that was asked for.
        sha256: The pointer: 64 lower-case hex digits, the SHA-256 of the snapshot's bytes.
        announced_rows: How many rows the container counted in Foundry, now or when it pulled this snapshot, or None if
            that is unknown.
        origin: `"cached"` for a version of the window, `"fetched"` for data that was pulled from Foundry just now.
        requested_at: The aware instant at which the container was asked.
        announced_at: The aware instant at which it answered.
        seconds: How long it took until it was announced.
        evidence: Where it is kept how many rows the snapshot has.
        is_certain: Whether `announced_rows` is surely of this snapshot. It is not where it was announced before an
            earlier connection was lost: the version may be of somebody else's later pull.
        max_record_bytes: How many bytes a record of the snapshot may have.
    """

    dataset: str
    window: Window
    sha256: str
    announced_rows: int | None
    origin: Origin
    requested_at: datetime
    announced_at: datetime
    seconds: float
    evidence: Evidence = field(repr=False, compare=False)
    is_certain: bool
    max_record_bytes: int = field(default=MAX_RECORD_BYTES, compare=False, kw_only=True)

    @property
    def is_outside(self) -> bool:
        """Whether today's data were taken for a window that had ended before or during the pull."""
        asked, came = self.window.contains(self.requested_at), self.window.contains(self.announced_at)
        return self.origin == "fetched" and not (asked and came)


@dataclass(frozen=True)
class ArrivingSnapshot:
    """A snapshot whose bytes are still on their way.

    Attributes:
        announcement: What the container said of it.
        file: Its bytes, as far as they have arrived.
    """

    announcement: Announcement
    file: SpoolFile

    @classmethod
    def of(cls, announcement: Announcement, directory: Path | str) -> ArrivingSnapshot:
        """Prepare a snapshot before its bytes arrive; nothing is written yet.

        Args:
            announcement: What the container said of it.
            directory: An existing directory for its file.

        Returns:
            The snapshot, to be given to `FoundryDevToolsContainerClient.fetch`.
        """
        return cls(announcement, SpoolFile(Path(directory), announcement.sha256))

    @property
    def source(self) -> CsvSource:
        """Where its rows are read from."""
        return _source(self.file.open, self.announcement)

    def scan(self, schema: SchemaLike | None = None) -> pl.LazyFrame:
        """Give the typed rows; see `Snapshot.scan`.

        Call it in another thread than the download's, because it waits for bytes: now for the header, for the others
        while the rows are collected or sunk, and at the end until all are verified. Waiting raises the error that ended
        the download, or `ChecksumMismatchError` if a retry brought other bytes than those that were read.

        Args:
            schema: As for `Snapshot.scan`. Without one, types are inferred while the bytes arrive, so this returns when
                all have.

        Returns:
            The LazyFrame; it can be used until the spool file is closed.
        """
        return self.source.scan(None if schema is None else to_schema(schema))


@dataclass(frozen=True)
class Snapshot(Announcement):
    """One pull of a whole dataset, as a CSV file whose bytes were verified against the pointer.

    Attributes:
        path: The CSV, in the directory that was given to `pull`; it belongs to the caller.
        size_bytes: The file's size in bytes.
        seconds: How long the announcement and the download took together.
        download_seconds: How long the download took.
    """

    path: Path
    size_bytes: int
    download_seconds: float = 0.0

    def scan(self, schema: SchemaLike | None = None) -> pl.LazyFrame:
        """Give the typed rows as a LazyFrame that streams from `path`.

        Args:
            schema: Column → Polars data type (or its name) of every column; values must fit strictly, as pandas writes
                them, and an empty field is null. None: types are inferred over the whole file, in a pass of its
                own, now.

        Returns:
            The LazyFrame. Collecting or sinking it to its end raises `SchemaMismatchError` or `RowCountMismatchError`
            where the data are not as declared or announced. Polars 1 wraps them in its `ComputeError`; `source.read`
            raises them as they are.

        Raises:
            ValueError: The schema has an unknown data type.
            SchemaMismatchError: The CSV's columns are not those of the schema.
        """
        return self.source.scan(None if schema is None else to_schema(schema))

    @property
    def source(self) -> CsvSource:
        """Where its rows are read from."""
        return _source(self._open, self)

    def _open(self) -> AbstractContextManager[Readable]:
        return self.path.open("rb")


def _source(opened: Callable[[], AbstractContextManager[Readable]], known: Announcement) -> CsvSource:
    return CsvSource(
        opened,
        announced_rows=known.announced_rows,
        dataset=known.dataset,
        window=known.window,
        sha256=known.sha256,
        evidence=known.evidence,
        is_certain=known.is_certain,
        max_record_bytes=known.max_record_bytes,
    )
