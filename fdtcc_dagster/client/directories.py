"""Directories of a user: the state directory, and paths that begin with the home directory.

In the state directory is what processes of one user must know of each other: locks, and evidence of snapshots.
`FDTCC_STATE_DIRECTORY` names it. Otherwise it is the user's state directory on this platform
(`~/.local/state/fdtcc-dagster` on Linux) or, if that is not writable, one in the temporary directory. If no temporary
directory is writable either, as on a read-only root file system, it is in the spool directory.
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

STATE_DIRECTORY = "FDTCC_STATE_DIRECTORY"
"""The environment variable that names the directory."""

_spool_directory: Path | None = None


def fall_back_to(spool_directory: Path) -> None:
    """Let this process use its spool directory where no temporary directory is writable."""
    global _spool_directory
    _spool_directory = spool_directory


def temporary_directory() -> Path:
    """The system's temporary directory or, if none is writable, the spool directory.

    Raises:
        FileNotFoundError: There is neither.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        if _spool_directory is not None:
            return _spool_directory
        raise FileNotFoundError(error.errno, f"{error.strerror}; set TMPDIR to a directory that is writable") from None


def state_directory() -> Path:
    """The state directory, made if it does not exist.

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
    return _made(temporary_directory() / f"fdtcc-state-{os.getuid() if hasattr(os, 'getuid') else 'user'}")


def lock_directory() -> Path:
    """The directory of this machine's file locks: a home directory may be shared by several machines."""
    machine = re.sub(r"[^A-Za-z0-9_-]", "_", platform.node()) or "machine"
    return _made(state_directory() / f"locks-{machine}")


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(directory)
    return directory


def _check_private(directory: Path) -> None:
    """Check that a directory is ours: in a place where everybody may write, somebody else may have made it."""
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


def expand_home(name: str, path: str | os.PathLike[str]) -> Path:
    """Replace a `~` or `~user` at the beginning of a path by the home directory.

    Raises:
        ValueError: There is no such user, or no home directory; otherwise a directory named `~user` would be made.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ValueError(
            f"{name}={os.fspath(path)!r} begins with the home directory of a user who has none on this machine: give "
            "the whole path, or begin it with ./ where a directory has that name"
        )
    return Path(expanded)
