"""Locks between all threads and processes of a user on this machine: one conversation per dataset, few handshakes.

Two requests for one dataset at once can corrupt it: see docs/protocol.md#two-requests-at-once. So there is one
conversation per dataset at a time. Several machines are kept apart by a database of locks where one is given: see
`fdtcc_dagster.client.database_lock`.

The holder of a lock writes a heartbeat every second. Others wait for the lock as long as there are heartbeats, however
long the queue is; they time out if the holder is stopped or hangs. A lock belongs to a file and not to its name, and
the file may be deleted. So the heartbeat says which file is locked, and the holder also locks the file that replaced
it.

Each handshake costs the container 1.5 seconds of processor time, and it drops one that it has not answered after 10
seconds: see docs/protocol.md#the-handshake. If many datasets are pulled at once, none is answered in time unless the
others wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

from filelock import FileLock, Timeout

from fdtcc_dagster.client.clock import AwakeClock
from fdtcc_dagster.client.database_lock import Check, database_lock
from fdtcc_dagster.client.directories import lock_directory
from fdtcc_dagster.errors import IdleTimeoutError

_POLL_SECONDS = 0.05
_HEARTBEAT_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0
"""How long a running holder on a busy machine may have no heartbeat."""


@dataclass
class _Queue:
    """Where the pulls of one event loop wait for one dataset, in order and without polling."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    timed_out: int | None = None
    """The last heartbeat of a holder for which a waiter timed out: the next one only looks for another heartbeat."""


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, _Queue]] = WeakKeyDictionary()


@asynccontextmanager
async def exclusive(
    container: str,
    dataset: str,
    on_wait: Callable[[], Awaitable[None]],
    timeout: float,
    database: str | None = None,
) -> AsyncIterator[Check]:
    """Hold the lock for conversations with one container about one dataset.

    Args:
        container: The container, as `Endpoint.identity` has it.
        dataset: The dataset's name.
        on_wait: Called once if another pull holds the lock.
        timeout: How many seconds to wait for a holder in another process that has no heartbeat.
        database: The database of locks.

    Yields:
        What raises if the lock was lost; to be called when the result is there.

    Raises:
        IdleTimeoutError: The holder has had no heartbeat for so long.
        ServiceUnavailableError: The database cannot be used.
    """
    path = _lock_path(container, dataset)
    queue = _queues.setdefault(asyncio.get_running_loop(), {}).setdefault(path, _Queue())
    if queue.lock.locked():
        await on_wait()
    async with queue.lock:
        # Not the lock's own file: every attempt to lock changes that.
        heartbeat = path.with_suffix(".heartbeat")
        locks = [_lock(path)]
        await _acquire(locks[0], heartbeat, queue, on_wait, timeout)
        try:
            _write_heartbeat(heartbeat, path)
            beating = asyncio.create_task(_beat(heartbeat, path, locks))
            try:
                if database is None:
                    yield lambda: None
                else:
                    async with database_lock(database, [f"{container}/{dataset}"], timeout, on_wait) as check:
                        yield check
            finally:
                beating.cancel()
                with suppress(OSError):
                    heartbeat.unlink()
        finally:
            for lock in locks:
                lock.release()


async def _acquire(
    lock: FileLock, heartbeat: Path, queue: _Queue, on_wait: Callable[[], Awaitable[None]], timeout: float
) -> None:
    # Only a change counts, by our own clock, and while we are running: what stops us stops the holder, too.
    clock = AwakeClock()
    seen, since, waited = _changed_at(heartbeat), clock(), 0.0
    has_told = False
    while True:
        try:
            _try_to_acquire(lock)
            # A holder whose file was deleted still has heartbeats; the file that a killed one left has none.
            if waited >= min(timeout / 2, _LONGEST_PAUSE_SECONDS) or not _is_of_deleted_file(
                heartbeat, Path(lock.lock_file)
            ):
                return
            lock.release()
        except Timeout:
            pass
        if not has_told:
            has_told = True
            await on_wait()
        waited = clock() - since
        if _changed_at(heartbeat) != seen:
            seen, since, waited = _changed_at(heartbeat), clock(), 0.0
        elif waited >= (min(timeout, 2 * _HEARTBEAT_SECONDS) if seen and seen == queue.timed_out else timeout):
            queue.timed_out = seen
            raise _stopped(heartbeat, timeout)
        await asyncio.sleep(_POLL_SECONDS)


async def _beat(heartbeat: Path, path: Path, locks: list[FileLock]) -> None:
    while True:
        await asyncio.sleep(_HEARTBEAT_SECONDS)
        with suppress(OSError):
            os.utime(heartbeat)
        # A waiter holds the lock for moments.
        with suppress(OSError, Timeout):
            if _is_of_deleted_file(heartbeat, path):
                lock = _lock(path)
                _try_to_acquire(lock)
                locks.append(lock)
            elif _changed_at(heartbeat) is not None:
                continue
            _write_heartbeat(heartbeat, path)


def _lock(path: Path) -> FileLock:
    return FileLock(path, mode=0o600, thread_local=False)


def _try_to_acquire(lock: FileLock) -> None:
    """Acquire a lock, or raise `Timeout` at once.

    Never blocking: this thread's event loop has other pulls to serve, and a cancellation to notice.
    """
    # If the directory was deleted, filelock would make it again with permissions that let others write to it.
    lock_directory()
    lock.acquire(blocking=False)


def _write_heartbeat(heartbeat: Path, path: Path) -> None:
    """Write who holds which lock. A full disk must not end a pull, and later heartbeats need no space."""
    with suppress(OSError):
        heartbeat.touch(0o600)
        heartbeat.write_text(f"{os.getpid()} {path.stat().st_ino}", encoding="ascii")


def _holder(heartbeat: Path) -> tuple[int, int] | None:
    """Which process holds the lock, and the inode of the file that it has locked."""
    try:
        process, inode = heartbeat.read_text(encoding="ascii").split()
        return int(process), int(inode)
    except (OSError, ValueError):
        return None


def _is_of_deleted_file(heartbeat: Path, path: Path) -> bool:
    """Tell whether the locked file was deleted."""
    held = _holder(heartbeat)
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return True
    return held is not None and held[1] != inode


def _changed_at(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _stopped(heartbeat: Path, timeout: float) -> IdleTimeoutError:
    held = _holder(heartbeat)
    holder = f"process {held[0]}" if held else "another process"
    return IdleTimeoutError(
        f"{holder} on this machine holds the dataset's lock and has had no heartbeat for {timeout:g} s: "
        "it is stopped or hangs; let it continue, or end it"
    )


def _lock_path(container: str, dataset: str) -> Path:
    return lock_directory() / f"{hashlib.sha256(f'{container}/{dataset}'.encode()).hexdigest()}.lock"


_places: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = WeakKeyDictionary()


@asynccontextmanager
async def handshake(container: str, limit: int, timeout: float, database: str | None = None) -> AsyncIterator[None]:
    """Hold one of the places for a handshake.

    Waiting lasts as long as others complete their handshakes. A holder that is stopped counts for no longer than a
    handshake may take.

    Args:
        container: The container, as `Endpoint.identity` has it.
        limit: How many handshakes there may be at a time.
        timeout: Seconds that a handshake may take.
        database: The database of locks.
    """
    places = _places.setdefault(asyncio.get_running_loop(), {})
    stem = f"{hashlib.sha256(container.encode()).hexdigest()}.handshake"
    paths = [lock_directory() / f"{stem}-{number}.lock" for number in range(limit)]
    # Not one of the locks: who merely tries to take one changes its file, too.
    progress = lock_directory() / f"{stem}s.lock"
    async with places.setdefault(f"{container}/{limit}", asyncio.Semaphore(limit)):
        lock = await _acquire_any(paths, progress, timeout)
        _touch(progress)
        try:
            if database is None:
                yield
            else:
                names = [f"handshake {number} with {container}" for number in range(limit)]
                async with database_lock(database, names, timeout):
                    yield
        finally:
            if lock is not None:
                lock.release()
            _touch(progress)


async def _acquire_any(paths: list[Path], progress: Path, timeout: float) -> FileLock | None:
    """Lock one of the files; None if no handshake has begun or ended for longer than one may take."""
    # Only a change counts, by our own clock, and while we are running, as for a dataset.
    clock = AwakeClock()
    seen, since = _changed_at(progress), clock()
    while True:
        for path in paths:
            lock = _lock(path)
            with suppress(Timeout):
                _try_to_acquire(lock)
                return lock
        await asyncio.sleep(_POLL_SECONDS)
        waited = clock() - since
        if (now := _changed_at(progress)) != seen:
            seen, since = now, clock()
        elif waited >= timeout:
            return None


def _touch(progress: Path) -> None:
    with suppress(OSError):
        progress.touch(0o600)
