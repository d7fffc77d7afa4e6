"""Temporary files and directories. If a process is killed, the next one removes those of it.

While a temporary file is in use, its process holds a file lock in this machine's lock directory, and the lock file says
where the temporary file is. If the lock is free, the process has ended, and the file is stale: the next process,
wherever it works, removes the file and then the lock. Without a lock on this machine, nothing is known: another machine
may be writing to the file, so it stays until nothing has changed in it for two days.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fdtcc_dagster.client.directories import expand_home, lock_directory, temporary_directory

try:
    import fcntl
except ImportError:  # on such a system there is no place for locks
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

# Earlier versions put the file's name before the part's, which made it too long for some.
_NAME = re.compile(r"fdtcc-spool-(?P<spool>[0-9a-f]{16})-\w+|(\..+)?\.fdtcc-(?P<part>[0-9a-f]{16})\.part")
_FORGOTTEN_SECONDS = 48 * 3600.0
"""Longer than any job lasts by default, with all its attempts."""
_TIDY_SECONDS = 60.0
_tidied: dict[Path, float] = {}
"""When this process looked for stale files in a directory."""


@contextmanager
def spool_directory(parent: str | Path | None = None) -> Iterator[Path]:
    """Make a directory for snapshots, and remove it with everything in it at the end.

    Stale files are removed first, by `tidy`.

    Args:
        parent: An existing directory to put it into, which may begin with `~`; None: the system's temporary directory.

    Yields:
        A new directory that only this user can read.

    Raises:
        OSError: `parent` does not exist or cannot be written to.
        ValueError: It begins with `~` and the name of no user.
    """
    parent = expand_home("spool_directory", parent) if parent else temporary_directory()
    tidy(parent)
    with _in_use(lambda token: parent / f"fdtcc-spool-{token}-{secrets.token_hex(4)}") as directory:
        try:
            directory.mkdir(mode=0o700)
        except OSError as error:
            why = "does not exist" if not parent.exists() else f"cannot be written to ({error.strerror})"
            raise type(error)(
                error.errno,
                f"the spool directory {parent} {why}; set spool_directory to an existing directory of this machine "
                "that this user can write to, or leave it out for the system's temporary directory",
            ) from error
        yield directory


@contextmanager
def part_of(target: Path) -> Iterator[Path]:
    """Give a path beside a file, to write there and then rename; stale files are removed first, by `tidy`.

    Args:
        target: The file, in an existing directory.

    Yields:
        A path at which nothing exists. What is there at the end is removed.
    """
    tidy(target.parent)
    with _in_use(lambda token: target.with_name(f".fdtcc-{token}.part")) as part:
        yield part


def tidy(directory: Path) -> None:
    """Remove stale files, but look for them at most once a minute in a directory, however many partitions it has.

    Args:
        directory: See `remove_stale_files`.
    """
    now = time.monotonic()
    if directory not in _tidied or now - _tidied[directory] >= _TIDY_SECONDS:
        _tidied[directory] = now
        remove_stale_files(directory)


def remove_stale_files(directory: Path) -> None:
    """Remove the stale files of this machine, wherever they are, and old ones of other machines in a directory.

    Args:
        directory: Where `spool_directory` or `part_of` were called; its other entries are not touched.
    """
    with contextlib.suppress(OSError):
        for lock in lock_directory().glob("*.alive"):
            with contextlib.suppress(OSError):
                _remove_if_stale(lock)
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if token := _token_of(Path(entry)):
                with contextlib.suppress(OSError):
                    _remove_if_forgotten(Path(entry), token)


@contextmanager
def _in_use(path_of: Callable[[str], Path]) -> Iterator[Path]:
    """Give a path that is marked as in use until the end; what is there then is removed.

    Args:
        path_of: Makes the path from a token.
    """
    path, lock = _lock_for(path_of)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            _remove(path)
        if lock is not None:
            with lock, contextlib.suppress(OSError):
                _unlink_unless_needed(Path(lock.name), path)


def _lock_for(path_of: Callable[[str], Path]) -> tuple[Path, IO[bytes] | None]:
    """Make a path, and hold the lock that marks it as in use; the lock is None if there is no place for locks."""
    while True:
        token = secrets.token_hex(8)
        path = path_of(token)
        try:
            lock = open(_lock_path(token), "xb", buffering=0, opener=_private)  # noqa: SIM115 (given to the caller)
        except OSError:
            # Others know nothing of the path, and leave it alone.
            return path, None
        try:
            # Others may have seen the file before it was locked, and have taken it for a stale one.
            if _acquire(lock) and os.path.samestat(os.fstat(lock.fileno()), os.stat(lock.name)):
                lock.write(os.fsencode(path.absolute()))
                return path, lock
        except FileNotFoundError:
            pass
        except OSError:
            lock.close()
            with contextlib.suppress(OSError):
                os.unlink(lock.name)
            return path, None
        lock.close()


def _remove_if_stale(lock_path: Path) -> None:
    """Remove a stale file, and then its lock, if no process holds that."""
    with lock_path.open("r+b", buffering=0) as lock:
        if not _acquire(lock):
            return
        path = Path(os.fsdecode(lock.read()))
        # Without a path, it was killed before it used it.
        if _token_of(path) == lock_path.stem and os.path.lexists(path):
            logger.info("removing %s, which a process that was killed has left", path)
            _remove(path)
        _unlink_unless_needed(lock_path, path)


def _remove_if_forgotten(path: Path, token: str) -> None:
    if not _lock_path(token).exists() and time.time() - _changed_at(path) > _FORGOTTEN_SECONDS:
        logger.info("removing %s, in which nothing has changed for two days", path)
        _remove(path)


def _unlink_unless_needed(lock_path: Path, path: Path) -> None:
    """Remove a lock, but keep it for the next process if its file could not be removed."""
    if _token_of(path) != lock_path.stem or not os.path.lexists(path):
        lock_path.unlink(missing_ok=True)


def _acquire(lock: IO[bytes]) -> bool:
    """Lock an open file until it is closed, unless this or another process has locked it."""
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no file locks")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _changed_at(path: Path) -> float:
    """The latest modification of a file, or of anything in a directory."""
    return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _token_of(path: Path) -> str | None:
    match = _NAME.fullmatch(path.name)
    return match and (match["spool"] or match["part"])


def _lock_path(token: str) -> Path:
    return lock_directory() / f"{token}.alive"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
