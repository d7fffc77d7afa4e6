"""One conversation per dataset at a time, in all threads and processes of a user on this machine.

Two requests for one dataset at once share a temporary file in the container: a corrupt version can come of it, whose
pointer matches its corrupt bytes (S17). Runs on several machines are kept apart by a Dagster pool.

Whoever holds a turn shows every second that it lives. However long the queue is, a turn is waited for as long as its
holder does; one that is stopped or hangs is given up.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from weakref import WeakKeyDictionary

from filelock import FileLock, Timeout

from fdtcc_dagster.client.errors import IdleTimeoutError

_POLL_SECONDS = 0.05
_SIGN_SECONDS = 1.0
_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, asyncio.Lock]] = WeakKeyDictionary()


@asynccontextmanager
async def exclusive(
    host: str, port: int, dataset: str, on_wait: Callable[[], Awaitable[None]], patience: float
) -> AsyncIterator[None]:
    """Hold the right to talk to one container about one dataset.

    Args:
        host: The container's host.
        port: The container's port.
        dataset: The dataset's name.
        on_wait: Called once if another pull holds it.
        patience: Seconds after which another process that holds it and shows no sign of life is not waited for.

    Raises:
        IdleTimeoutError: The process that holds it has shown no sign of life for so long.
    """
    path = _lock_path(host, port, dataset)
    # Pulls of one event loop queue up here, in order and without polling.
    queue = _queues.setdefault(asyncio.get_running_loop(), {}).setdefault(path, asyncio.Lock())
    if queue.locked():
        await on_wait()
    async with queue:
        lock = FileLock(path, mode=0o600, thread_local=False)
        # Not the lock's own file: who tries to take a lock changes that.
        sign = path.with_suffix(".sign")
        await _acquire(lock, sign, on_wait, patience)
        try:
            _show_life(sign)
            living = asyncio.create_task(_go_on_showing_life(sign))
            try:
                yield
            finally:
                living.cancel()
                sign.unlink(missing_ok=True)
        finally:
            lock.release()


async def _acquire(lock: FileLock, sign: Path, on_wait: Callable[[], Awaitable[None]], patience: float) -> None:
    clock = asyncio.get_running_loop().time
    seen: int | None = None
    given_up_at: float | None = None
    while True:
        try:
            # Never blocking: this thread's event loop has other pulls to serve, and a cancellation to notice.
            lock.acquire(blocking=False)
            return
        except Timeout:
            if given_up_at is None:
                await on_wait()
            # Its change counts, by our own clock: what stops this machine stops whoever waits, too.
            if given_up_at is None or _last(sign) != seen:
                seen, given_up_at = _last(sign), clock() + patience
            elif clock() >= given_up_at:
                raise _stopped(sign, patience) from None
            await asyncio.sleep(_POLL_SECONDS)


async def _go_on_showing_life(sign: Path) -> None:
    while True:
        await asyncio.sleep(_SIGN_SECONDS)
        _show_life(sign)


def _show_life(sign: Path) -> None:
    with suppress(OSError):  # a full disk must not end a pull; the time of a change needs no room
        new = not sign.exists()
        sign.touch(0o600)
        if new:
            sign.write_text(str(os.getpid()), encoding="ascii")


def _last(sign: Path) -> int | None:
    try:
        return sign.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _stopped(sign: Path, patience: float) -> IdleTimeoutError:
    try:
        holder = f"process {int(sign.read_text(encoding='ascii'))}"
    except (OSError, ValueError):
        holder = "another process"
    return IdleTimeoutError(
        f"{holder} on this machine holds the dataset's turn and has shown no sign of life for {patience:g} s: "
        "it is stopped or hangs; let it go on, or end it"
    )


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
