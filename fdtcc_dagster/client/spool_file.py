"""The spool file: it is read while a download writes it.

One thread writes what a download delivers. Others read the file from the beginning, and wait for bytes that have not
arrived yet. A reader sees the end of the file only when the whole file is verified: until then, reading beyond what has
arrived waits, and raises the error that ended the download.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fdtcc_dagster.errors import ChecksumMismatchError
from fdtcc_dagster.redaction import counted

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_WAIT_SECONDS = 0.5
"""How long a wait lasts before it is begun again: the main thread notices an interrupt only in between."""


class SpoolFile:
    """The file `<directory>/<sha256>.csv`, from its first byte to its last.

    Args:
        directory: Where it is put, with mode 0600; it has another name until it is verified.
        sha256: What the SHA-256 of its bytes must be, 64 lower-case hex digits.
    """

    def __init__(self, directory: Path, sha256: str) -> None:
        self.path = directory / f"{sha256}.csv"
        self.sha256 = sha256
        self.size = 0
        """How many bytes the current attempt has written."""
        self.version = 0
        """How often an attempt delivered other bytes than one before it, so that what was read is void."""
        self._part = directory / f".{sha256}.{secrets.token_hex(4)}.part"
        self._changed = threading.Condition(threading.RLock())
        self._readable = 0
        self._delivered: dict[int, bytes] = {}
        """How many bytes each earlier attempt has delivered, and their hash."""
        self._complete = False
        self.error: Exception | None = None
        """Why it did not arrive, after `close`."""
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()

    def begin(self) -> None:
        """Begin an attempt: the next bytes that are written are the file's first ones.

        Readers stay where they are. The hash of the bytes that an earlier attempt delivered shows whether this attempt
        repeats them.
        """
        if self._file is None:
            self._file = os.fdopen(os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "r+b", buffering=0)
        if self.size:
            if self._delivered.get(self.size, self._digest.digest()) != self._digest.digest():
                self._void()
            self._delivered[self.size] = self._digest.digest()
        self._file.seek(0)
        self.size, self._digest = 0, hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        begin = self.size
        for size in sorted(size for size in self._delivered if begin < size <= begin + len(data)):
            self._take(data[self.size - begin : size - begin])
            if self._digest.digest() != self._delivered[size]:
                self._void()
        self._take(data[self.size - begin :])
        with self._changed:
            self._readable = max(self._readable, self.size)
            self._changed.notify_all()

    def finish(self) -> None:
        """End the last attempt: verify the bytes, and give the file its name.

        Raises:
            ChecksumMismatchError: The bytes are not those of the pointer.
            OSError: The file is not as it was written, or cannot be renamed.
        """
        assert self._file is not None  # noqa: S101  begun by the caller
        found = self._digest.hexdigest()
        if found != self.sha256:
            raise ChecksumMismatchError(
                f"{counted(self.size, 'byte')} arrived with the SHA-256 {found}, but {self.sha256} was announced: "
                "truncated or altered on the way, or in the container; try again"
            )
        with self._changed:
            if self._readable > self.size:
                self._void()
            self._file.truncate(self.size)
            if (written := os.fstat(self._file.fileno()).st_size) != self.size:
                raise OSError(f"{self.size} bytes were written to {self._part.name}, but the file has {written}")
            self._part.replace(self.path)
            self._complete = True
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """End the download: readers no longer wait, and an unverified file is removed. May be called again.

        Args:
            error: Why the download failed; readers raise it.
        """
        with self._changed:
            if self._file is not None:
                self._file.close()
                self._file = None
            if not self._complete and self.error is None:
                self._part.unlink(missing_ok=True)
                # In another thread, a cancellation of the download is a failure like others.
                self.error = error if isinstance(error, Exception) else RuntimeError("the download was ended")
            self._changed.notify_all()

    @contextmanager
    def open(self) -> Iterator[io.RawIOBase]:
        """Read the file from its beginning.

        Yields:
            A raw file. Its `readinto` returns fewer bytes than asked for only at the end. It raises the error that
            ended the download, or `ChecksumMismatchError` if another attempt delivered other bytes.
        """
        with self._changed:
            while not (self._readable or self._complete or self.error):
                self._changed.wait(_WAIT_SECONDS)
            self._check(self.version)
            file = (self.path if self._complete else self._part).open("rb", buffering=0)
            version = self.version
        with file:
            yield _Reader(self, file, version)

    def wait(self, position: int, version: int) -> int:
        """Wait until something can be read, and check that the reader may continue.

        Args:
            position: Up to where the reader wants to read.
            version: The version with which the reader began.

        Returns:
            Up to where it can read: `position`, or less at the end of the file.
        """
        with self._changed:
            while self._readable < position and not self._complete and self.error is None:
                self._changed.wait(_WAIT_SECONDS)
            self._check(version)
            return min(position, self.size if self._complete else self._readable)

    def _check(self, version: int) -> None:
        if self.error is not None and not self._complete:
            # A copy: the traceback of one would grow with each reader, and keep their frames alive.
            raise copy.copy(self.error)
        if version != self.version:
            raise ChecksumMismatchError("the download began anew with other bytes; read them again")

    def _take(self, data: bytes) -> None:
        assert self._file is not None  # noqa: S101  begun by the caller
        self._digest.update(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.size += len(data)

    def _void(self) -> None:
        with self._changed:
            self.version += 1
            self._readable = self.size
            self._changed.notify_all()


class _Reader(io.RawIOBase):
    def __init__(self, spool_file: SpoolFile, file: io.FileIO, version: int) -> None:
        self._spool_file, self._file, self._version = spool_file, file, version
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        begin = self._position
        end = self._spool_file.wait(begin + len(view), self._version)
        while self._position < end:
            size = self._file.readinto(view[self._position - begin : end - begin])
            if not size:
                # Another attempt may have cut it off in the meantime.
                self._spool_file.wait(end, self._version)
                raise OSError(f"the file is shorter than its {end} bytes")
            self._position += size
        return end - begin
