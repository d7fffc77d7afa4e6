"""Few handshakes with one container at a time, in all threads and processes of a user on this machine.

Each handshake costs the container 1.5 seconds of processor time, and it drops one that it has not answered after 10
seconds: see docs/protocol.md#the-handshake. If many datasets are pulled at once, none is answered in time unless the
others wait.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from weakref import WeakKeyDictionary

from filelock import FileLock, Timeout

from fdtcc_dagster.client.clock import AwakeClock
from fdtcc_dagster.client.state import acquire, lock_directory

_POLL_SECONDS = 0.05

_places: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = WeakKeyDictionary()


@asynccontextmanager
async def handshake(container: str, limit: int, timeout: float) -> AsyncIterator[None]:
    """Hold one of the places for a handshake.

    Waiting lasts as long as others complete their handshakes. A holder that is stopped counts for no longer than a
    handshake may take.

    Args:
        container: The container, as `host:port`.
        limit: How many handshakes there may be at a time.
        timeout: Seconds that a handshake may take.
    """
    places = _places.setdefault(asyncio.get_running_loop(), {})
    stem = f"{hashlib.sha256(container.encode()).hexdigest()}.handshake"
    paths = [lock_directory() / f"{stem}-{number}.lock" for number in range(limit)]
    # Not one of the locks: who merely tries to take one changes its file, too.
    progress = lock_directory() / f"{stem}s.lock"
    async with places.setdefault(f"{container}/{limit}", asyncio.Semaphore(limit)):
        lock = await _acquire(paths, progress, timeout)
        _touch(progress)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()
            _touch(progress)


async def _acquire(paths: list[Path], progress: Path, timeout: float) -> FileLock | None:
    """Lock one of the files; None if no handshake has begun or ended for longer than one may take."""
    # By our own clock, and only while we are awake: what stops us stops the holders, too.
    clock = AwakeClock()
    seen, since = _changed(progress), clock()
    while True:
        for path in paths:
            lock = FileLock(path, mode=0o600, thread_local=False)
            with suppress(Timeout):
                # Never blocking: this thread's event loop has other pulls to serve, and a cancellation to notice.
                acquire(lock)
                return lock
        await asyncio.sleep(_POLL_SECONDS)
        waited = clock() - since
        if (now := _changed(progress)) != seen:
            seen, since = now, clock()
        elif waited >= timeout:
            return None


def _touch(progress: Path) -> None:
    with suppress(OSError):
        progress.touch(0o600)


def _changed(progress: Path) -> int:
    try:
        return progress.stat().st_mtime_ns
    except OSError:
        return 0
