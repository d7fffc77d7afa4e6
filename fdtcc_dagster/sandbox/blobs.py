"""CSV files named by the SHA-256 of their bytes."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Blob:
    """A CSV on disk.

    Attributes:
        sha256: The hash of its bytes in lower-case hex: its pointer.
        path: Where it is.
        rows: Its records without the header.
    """

    sha256: str
    path: Path
    rows: int


class Blobs:
    """The files of a private directory, and what is known of files elsewhere. Safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._described: dict[Path, Blob] = {}
        self._zipping = threading.Lock()

    def add(self, chunks: Iterable[bytes]) -> Blob:
        """Store bytes under their hash, and return that CSV."""
        descriptor, name = tempfile.mkstemp(dir=self._directory)
        with open(descriptor, "wb") as file:
            digest, rows = _measure(_copied(chunks, file.write))
        path = self._directory / f"{digest}.csv"
        os.replace(name, path)
        return self._described.setdefault(path, Blob(digest, path, rows))

    def describe(self, path: Path) -> Blob:
        """Hash and count a file that does not change; once per path."""
        blob = self._described.get(path)
        if blob is None:
            blob = self._described[path] = Blob(*_parts(path))
        return blob

    def described(self, path: Path) -> Blob | None:
        """What is known of a file without reading it."""
        return self._described.get(path)

    def zipped(self, blob: Blob) -> Path:
        """Return the path of a ZIP whose one deflated member is `{sha256}.csv`, made at the first call."""
        path = self._directory / f"{blob.sha256}.zip"
        with self._zipping:
            if not path.exists():
                unfinished = path.with_suffix(".zip.tmp")
                with zipfile.ZipFile(
                    unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False
                ) as archive:
                    archive.write(blob.path, f"{blob.sha256}.csv")
                os.replace(unfinished, path)
        return path

    def batched(self, blob: Blob, batches: int, batch_size: int) -> Blob:
        """Keep the rows whose id lies in 1 … batches · batch_size, as `id > a AND id <= b` does.

        Args:
            blob: A CSV with a column `id`.
            batches: The number of batches.
            batch_size: The ids per batch.

        Returns:
            What is left, with the header; the same CSV if that is everything.
        """
        if not _loses(blob.path, batches * batch_size):
            return blob
        descriptor, name = tempfile.mkstemp(dir=self._directory)
        with (
            open(blob.path, encoding="utf-8", newline="") as source,
            open(descriptor, "w", encoding="utf-8", newline="") as target,
        ):
            reader = csv.reader(source)
            writer = csv.writer(target, lineterminator="\n")
            header = next(reader)
            writer.writerow(header)
            column = header.index("id")
            writer.writerows(row for row in reader if row and 0 < _id(row[column]) <= batches * batch_size)
        try:
            return self.add(read(Path(name)))
        finally:
            os.unlink(name)

    def torn(self, blob: Blob) -> Blob:
        """Write what two simultaneous pulls leave in one temporary file: a torn beginning, then everything."""
        return self.add(_torn(blob.path))

    def remove(self) -> None:
        """Remove the private directory."""
        shutil.rmtree(self._directory, ignore_errors=True)


def columns(path: Path) -> list[str]:
    """Return the names in a CSV's header; none for an empty file."""
    with open(path, encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


def read(path: Path) -> Iterator[bytes]:
    """Read a file in pieces of a few MB."""
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _parts(path: Path) -> tuple[str, Path, int]:
    digest, rows = _measure(read(path))
    return digest, path, rows


def _copied(chunks: Iterable[bytes], write: Callable[[bytes], object]) -> Iterator[bytes]:
    for chunk in chunks:
        write(chunk)
        yield chunk


def _measure(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Hash a CSV and count its records; line feeds between quotes do not count."""
    digest = hashlib.sha256()
    lines, quoted, unfinished = 0, False, False
    for chunk in chunks:
        digest.update(chunk)
        # Every second piece between quotes is quoted; an escaped quote ("") changes the state twice.
        pieces = chunk.split(b'"')
        lines += sum(piece.count(b"\n") for piece in pieces[quoted::2])
        quoted ^= len(pieces) % 2 == 0
        unfinished = quoted or not chunk.endswith(b"\n")
    return digest.hexdigest(), max(lines + unfinished - 1, 0)


def _loses(path: Path, last: int) -> bool:
    """Whether any id is not in 1 … last; seconds for what takes `csv` minutes."""
    import polars as pl  # here, as a sandbox of small datasets starts faster without it

    ids = pl.scan_csv(path, infer_schema=False).select(pl.col("id").cast(pl.Float64, strict=False))
    kept = (pl.col("id") > 0) & (pl.col("id") <= last)
    return not ids.select(kept.fill_null(False).all()).collect(engine="streaming").item()


def _id(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0  # in no batch, so lost


def _torn(path: Path) -> Iterator[bytes]:
    half = path.stat().st_size // 2
    for chunk in read(path):
        yield chunk[:half]
        half -= len(chunk[:half])
        if not half:
            break
    yield from read(path)
