"""Where this user's processes keep what they have to know of each other: locks, and evidence of snapshots.

`FDTCC_STATE_DIRECTORY` names the directory. Otherwise it is the user's state directory, as the platform has it
(`~/.local/state/fdtcc-dagster` on Linux), or, where nobody may write there, one in the temporary directory.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs
from filelock import FileLock

from fdtcc_dagster.client.paths import expand_home

STATE_DIRECTORY = "FDTCC_STATE_DIRECTORY"
"""The environment variable that names the directory."""


def state_directory() -> Path:
    """The directory of what outlives a process; it is made if it does not exist.

    Raises:
        OSError: It cannot be made, or others may write to it.
    """
    if given := os.environ.get(STATE_DIRECTORY):
        try:
            return _made(expand_home(STATE_DIRECTORY, given))
        except ValueError as error:
            raise NotADirectoryError(errno.ENOTDIR, str(error)) from None
    with suppress(OSError, RuntimeError):  # no home directory, or a read-only one
        return _made(platformdirs.user_state_path("fdtcc-dagster", appauthor=False))
    return _made(Path(tempfile.gettempdir()) / f"fdtcc-state-{os.getuid() if hasattr(os, 'getuid') else 'user'}")


def lock_directory() -> Path:
    """The directory of this machine's file locks: a home directory may be that of several machines."""
    machine = re.sub(r"[^A-Za-z0-9_-]", "_", platform.node()) or "machine"
    return _made(state_directory() / f"locks-{machine}")


def acquire(lock: FileLock) -> None:
    """Lock a file of the lock directory, or raise `Timeout` at once.

    The directory may have been deleted: filelock would make it so that others might write to it.
    """
    lock_directory()
    lock.acquire(blocking=False)


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(directory)
    return directory


def _check_private(directory: Path) -> None:
    """Make sure that the directory is ours: where everybody may write, somebody else may have made it."""
    status = directory.lstat()
    if hasattr(os, "getuid") and not (
        stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    ):
        raise PermissionError(
            errno.EPERM,
            f"{directory} is no directory that only this user can write to; remove it, or set {STATE_DIRECTORY}",
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"{directory} cannot be written to; set {STATE_DIRECTORY}")
