"""A lock per dataset: one conversation at a time, in all threads and processes of a user on this machine.

Two requests for one dataset at once can corrupt it: see docs/protocol.md#two-requests-at-once. Runs on several machines
are kept apart by a Dagster pool.

The holder of a lock writes a heartbeat every second. Others wait for the lock as long as there are heartbeats, however
long the queue is; they time out if the holder is stopped or hangs. A lock belongs to a file and not to its name, and
the file may be deleted. So the heartbeat says which file is locked, and the holder also locks the file that replaced
it.
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
from fdtcc_dagster.client.state import acquire, lock_directory
from fdtcc_dagster.errors import IdleTimeoutError

_POLL_SECONDS = 0.05
_SIGN_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0
"""For so long a holder on a busy machine may show no sign of life."""


@dataclass
class _Queue:
    """Where the pulls of one event loop wait for one dataset, in order and without polling."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    given_up: int | None = None
    """The last sign of life of a holder that was waited for in vain: the next one only looks whether it goes on."""


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, _Queue]] = WeakKeyDictionary()


@asynccontextmanager
async def exclusive(
    container: str, dataset: str, on_wait: Callable[[], Awaitable[None]], patience: float
) -> AsyncIterator[None]:
    """Hold the right to talk to one container about one dataset.

    Args:
        container: The container, as `Endpoint.identity` has it.
        dataset: The dataset's name.
        on_wait: Called once if another pull holds it.
        patience: Seconds after which another process that holds it and shows no sign of life is not waited for.

    Raises:
        IdleTimeoutError: The process that holds it has shown no sign of life for so long.
    """
    path = _lock_path(container, dataset)
    queue = _queues.setdefault(asyncio.get_running_loop(), {}).setdefault(path, _Queue())
    if queue.lock.locked():
        await on_wait()
    async with queue.lock:
        # Not the lock's own file: who tries to take a lock changes that.
        sign = path.with_suffix(".sign")
        locks = [_lock(path)]
        await _acquire(locks[0], sign, queue, on_wait, patience)
        try:
            _sign(sign, path)
            living = asyncio.create_task(_go_on_showing_life(sign, path, locks))
            try:
                yield
            finally:
                living.cancel()
                with suppress(OSError):
                    sign.unlink()
        finally:
            for lock in locks:
                lock.release()


async def _acquire(
    lock: FileLock, sign: Path, queue: _Queue, on_wait: Callable[[], Awaitable[None]], patience: float
) -> None:
    # Its change counts, by our own clock, and only while we are awake: what stops us stops the holder, too.
    clock = AwakeClock()
    seen, since, waited = _last(sign), clock(), 0.0
    told = False
    while True:
        try:
            # Never blocking: this thread's event loop has other pulls to serve, and a cancellation to notice.
            acquire(lock)
            # A holder whose file was deleted goes on showing life; what a killed one has left does not.
            if waited >= min(patience / 2, _LONGEST_PAUSE_SECONDS) or not _says_other_file(sign, Path(lock.lock_file)):
                return
            lock.release()
        except Timeout:
            pass
        if not told:
            told = True
            await on_wait()
        waited = clock() - since
        if _last(sign) != seen:
            seen, since, waited = _last(sign), clock(), 0.0
        elif waited >= (min(patience, 2 * _SIGN_SECONDS) if seen and seen == queue.given_up else patience):
            queue.given_up = seen
            raise _stopped(sign, patience)
        await asyncio.sleep(_POLL_SECONDS)


async def _go_on_showing_life(sign: Path, path: Path, locks: list[FileLock]) -> None:
    while True:
        await asyncio.sleep(_SIGN_SECONDS)
        with suppress(OSError):
            os.utime(sign)
        # Somebody who waits holds the lock for moments.
        with suppress(OSError, Timeout):
            if _says_other_file(sign, path):
                lock = _lock(path)
                acquire(lock)
                locks.append(lock)
            elif _last(sign) is not None:
                continue
            _sign(sign, path)


def _lock(path: Path) -> FileLock:
    return FileLock(path, mode=0o600, thread_local=False)


def _sign(sign: Path, path: Path) -> None:
    """Say who holds which lock; a full disk must not end a pull, and to say again that one lives needs no room."""
    with suppress(OSError):
        sign.touch(0o600)
        sign.write_text(f"{os.getpid()} {path.stat().st_ino}", encoding="ascii")


def _signed(sign: Path) -> tuple[int, int] | None:
    """Which process holds the turn, and the inode of the lock's file that it has."""
    try:
        process, inode = sign.read_text(encoding="ascii").split()
        return int(process), int(inode)
    except (OSError, ValueError):
        return None


def _says_other_file(sign: Path, path: Path) -> bool:
    """Tell whether the file that is said to be locked was deleted."""
    signed = _signed(sign)
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return True
    return signed is not None and signed[1] != inode


def _last(sign: Path) -> int | None:
    try:
        return sign.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _stopped(sign: Path, patience: float) -> IdleTimeoutError:
    signed = _signed(sign)
    holder = f"process {signed[0]}" if signed else "another process"
    return IdleTimeoutError(
        f"{holder} on this machine holds the dataset's turn and has shown no sign of life for {patience:g} s: "
        "it is stopped or hangs; let it go on, or end it"
    )


def _lock_path(container: str, dataset: str) -> Path:
    return lock_directory() / f"{hashlib.sha256(f'{container}/{dataset}'.encode()).hexdigest()}.lock"
