"""One conversation per dataset at a time, in all threads and processes of a user on this machine.

Two requests for one dataset at once share a temporary file in the container: a corrupt version can come of it, whose
pointer matches its corrupt bytes (S17). Runs on several machines are kept apart by a Dagster pool.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

from filelock import FileLock, Timeout

_POLL_SECONDS = 0.05
_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, asyncio.Lock]] = WeakKeyDictionary()


@asynccontextmanager
async def exclusive(host: str, port: int, dataset: str, on_wait: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Hold the right to talk to one container about one dataset.

    Args:
        host: The container's host.
        port: The container's port.
        dataset: The dataset's name.
        on_wait: Called once if another pull holds it.
    """
    path = _lock_path(host, port, dataset)
    # Pulls of one event loop queue up here, in order and without polling.
    queue = _queues.setdefault(asyncio.get_running_loop(), {}).setdefault(path, asyncio.Lock())
    if queue.locked():
        await on_wait()
    async with queue:
        lock = FileLock(path, mode=0o600, thread_local=False)
        await _acquire(lock, on_wait)
        try:
            yield
        finally:
            lock.release()


async def _acquire(lock: FileLock, on_wait: Callable[[], Awaitable[None]]) -> None:
    waiting = False
    while True:
        try:
            # Never blocking: this thread's event loop has other pulls to serve, and a cancellation to notice.
            lock.acquire(blocking=False)
            return
        except Timeout:
            if not waiting:
                waiting = True
                await on_wait()
            await asyncio.sleep(_POLL_SECONDS)


def lock_directory() -> Path:
    """The directory of all file locks of this user on this machine; it is made if it does not exist."""
    directory = Path(tempfile.gettempdir()) / f"fdtcc-locks-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    directory.mkdir(mode=0o700, exist_ok=True)
    _check_private(directory)
    return directory


def _lock_path(host: str, port: int, dataset: str) -> Path:
    return lock_directory() / f"{hashlib.sha256(f'{host}:{port}/{dataset}'.encode()).hexdigest()}.lock"


def _check_private(directory: Path) -> None:
    """Make sure that the directory is ours: where everybody may write, somebody else may have made it."""
    status = directory.lstat()
    if hasattr(os, "getuid") and not (
        stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    ):
        raise PermissionError(
            errno.EPERM, f"{directory} is no directory that only this user can write to; remove it, or set TMPDIR"
        )
