"""The disk budget: how many bytes a download, and the slices cut from it, may write to a disk that others use, too."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from fdtcc_dagster.errors import DatasetRetrievalError

_STEP_BYTES = 8 << 20
_RESERVE = 0.02
_MOST_RESERVED_BYTES = 1 << 30


def too_large(max_bytes: int) -> DatasetRetrievalError:
    """Make the error for a download that is larger than allowed."""
    return DatasetRetrievalError(f"the download has more than {max_bytes} bytes; if that is right, raise max_bytes")


class DiskBudget:
    """Stops a download, or the parts of slices, that grow beyond a limit or would fill the disk.

    A ZIP of some megabytes can inflate to any size, and a body may have no end. What stays free is 2 % of the file
    system, at most 1 GiB, which small downloads may use.

    Args:
        directory: Where the files grow.
        max_bytes: The limit, or None if only the disk limits it.
        what: What grows, for the error.
    """

    def __init__(self, directory: Path, max_bytes: int | None, what: str = "the snapshot") -> None:
        self._directory, self._max_bytes, self._what = directory, max_bytes, what
        self._told = 0
        self._next = _STEP_BYTES

    def check(self, size: int) -> None:
        """Check a number of bytes before they are written.

        Raises:
            DatasetRetrievalError: There are more than the limit.
            OSError: The disk is nearly full.
        """
        if self._max_bytes is not None and size > self._max_bytes:
            raise too_large(self._max_bytes)
        coming, self._told = size - self._told, size
        if size < self._next:
            return
        self._next = size + _STEP_BYTES
        usage = shutil.disk_usage(self._directory)
        if usage.free - coming - _STEP_BYTES < min(int(usage.total * _RESERVE), _MOST_RESERVED_BYTES):
            raise OSError(
                errno.ENOSPC,
                f"the disk of {self._directory} has {usage.free} bytes left, {size} bytes into {self._what}; "
                "make room, or give another spool directory",
            )
