"""Temporary files and directories which the next process removes when their own was killed.

While one is in use, its process holds a file lock, named after it, in a directory of the user on this machine. When
that lock is free the process is dead. Of what has no lock here, nothing is known: another machine may be writing to it,
so it is left alone until nothing has changed in it for two days.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fdtcc_dagster.client.exclusive import lock_directory

logger = logging.getLogger(__name__)

_NAME = re.compile(r"fdtcc-spool-(?P<spool>[0-9a-f]{16})-\w+|\..+\.fdtcc-(?P<part>[0-9a-f]{16})\.part")
_FORGOTTEN_SECONDS = 48 * 3600.0
"""Longer than any job lasts by default, with all its attempts."""


@contextmanager
def spool_directory(parent: str | Path | None = None) -> Iterator[Path]:
    """Give a directory for snapshots on their way, which is removed with all that is in it, whatever happens.

    Leftovers of processes that were killed are removed first.

    Args:
        parent: An existing directory to put it into; None: the system's temporary directory.

    Yields:
        A new directory that only this user can read.

    Raises:
        OSError: `parent` does not exist or cannot be written to.
    """
    parent = parent or tempfile.gettempdir()
    remove_leftovers(Path(parent))
    with (
        _in_use() as token,
        tempfile.TemporaryDirectory(prefix=f"fdtcc-spool-{token}-", dir=parent) as directory,
    ):
        yield Path(directory)


@contextmanager
def part_of(target: Path) -> Iterator[Path]:
    """Give a path beside a file, to write it there and then move it to its place.

    Leftovers of processes that were killed are removed from the file's directory first.

    Args:
        target: The file, in an existing directory.

    Yields:
        A path at which nothing exists; what is there at the end is removed.
    """
    remove_leftovers(target.parent)
    with _in_use() as token:
        part = target.with_name(f".{target.name}.fdtcc-{token}.part")
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)


def remove_leftovers(directory: Path) -> None:
    """Remove what processes that were killed have left in a directory; those that live keep theirs.

    Args:
        directory: Where `spool_directory` or `part_of` were called; its other entries are not touched.
    """
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if match := _NAME.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(Path(entry), match["spool"] or match["part"])
    _remove_forgotten_locks()


def _remove_forgotten_locks() -> None:
    """Remove the locks of processes that were killed between their last file and its lock, which are empty files."""
    with contextlib.suppress(OSError):
        for path in lock_directory().glob("*.alive"):
            if time.time() - path.stat().st_mtime > _FORGOTTEN_SECONDS:
                with contextlib.suppress(Timeout), FileLock(path).acquire(blocking=False):
                    path.unlink(missing_ok=True)


@contextmanager
def _in_use() -> Iterator[str]:
    """Give a token that is known to be in use until the end."""
    token = secrets.token_hex(8)
    lock: FileLock | None = None
    # Without a place for locks, others know nothing of it, and leave it alone.
    with contextlib.suppress(OSError):
        lock = FileLock(_lock_path(token), thread_local=False)
        lock.acquire(blocking=False)
    try:
        yield token
    finally:
        if lock is not None:
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def _remove_if_abandoned(path: Path, token: str) -> None:
    lock_path = _lock_path(token)
    if not lock_path.exists():
        if time.time() - _changed_at(path) > _FORGOTTEN_SECONDS:
            _remove(path)
        return
    lock = FileLock(lock_path)
    with contextlib.suppress(Timeout), lock.acquire(blocking=False):
        _remove(path)
        lock_path.unlink(missing_ok=True)


def _changed_at(path: Path) -> float:
    """The latest modification of a file, or of anything in a directory."""
    return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))


def _remove(path: Path) -> None:
    logger.info("removing %s, which a process that was killed has left", path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _lock_path(token: str) -> Path:
    return lock_directory() / f"{token}.alive"
