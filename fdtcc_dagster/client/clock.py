"""Timeouts that count only while this process runs.

A process that is stopped (SIGSTOP, a debugger, a suspended laptop or virtual machine), or whose event loop is blocked,
receives nothing although the other side sends. Such a gap counts for half a second at most.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

_TICK_SECONDS = 0.25
_MOST_SECONDS = 0.5
"""What counts of the time between two readings, of which there is one in each tick: the rest is a gap."""
_CANCEL_SECONDS = 1.0
"""For how long cancelled work is waited for."""


class AwakeClock:
    """Counts the seconds in which the event loop has run since the clock was made.

    Use it as a context manager: it reads the time at each tick until the block is left.

    Args:
        until: The reading at which the time is up; may be changed at any time.
        on_tick: Called at each tick.
    """

    def __init__(self, until: float = math.inf, on_tick: Callable[[], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._read_at, self._seconds = self._loop.time(), 0.0
        self.until, self._on_tick = until, on_tick

    def __enter__(self) -> AwakeClock:
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def __call__(self) -> float:
        """Read the clock."""
        now = self._loop.time()
        self._seconds += min(now - self._read_at, _MOST_SECONDS)
        self._read_at = now
        return self._seconds

    @property
    def is_up(self) -> bool:
        """Whether the time is up."""
        return self() >= self.until

    async def within(self, work: Awaitable[T]) -> T:
        """Wait for an awaitable until the time is up, and cancel it then.

        Unlike `asyncio.wait_for` up to Python 3.11, a cancellation is not lost if the awaitable has just ended.

        Raises:
            asyncio.TimeoutError: The time is up.
            BaseException: What the awaitable raised.
        """
        task = watched(work)
        try:
            while not task.done():
                if self.is_up:
                    task.cancel()
                    await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
                    raise asyncio.TimeoutError
                # Not for longer: the time may come to be up earlier.
                await asyncio.wait({task}, timeout=min(self.until - self(), _MOST_SECONDS))
        finally:
            task.cancel()
        return task.result()

    def _tick(self) -> None:
        self()
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)
        if self._on_tick is not None:
            self._on_tick()


async def settled(work: Awaitable[object], seconds: float, abort: Callable[[], object]) -> None:
    """Wait for the end of something that is being closed, and ignore what it raises.

    Args:
        work: A coroutine or a future.
        seconds: How long to wait, before `abort` and again after it.
        abort: Ends it by force; called when the time is up or the wait is cancelled.
    """
    task = watched(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            abort()
            try:
                await asyncio.wait({task}, timeout=seconds)
            finally:
                task.cancel()


def watched(work: Awaitable[T]) -> asyncio.Future[T]:
    """Make a future whose error is retrieved, so that asyncio does not report it when nobody waits any more."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda each: each.cancelled() or each.exception())
    return task
