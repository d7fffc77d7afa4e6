"""The client's retry policy: which failures, how often, within which time, after which waits.

- Errors that may pass by themselves are *retryable*; only `is_retryable` decides that.
- The client does not retry after silence, which has cost its time already.
- Attempts follow one another, and the dataset's lock is kept from the first to the last. The container's job may run on
  after a disconnect, and two jobs at once corrupt each other: see docs/protocol.md#when-a-client-goes-away and
  docs/protocol.md#two-requests-at-once.
- Waits double, with jitter. After a lost conversation they are also as long as it had lasted, up to a minute: the job
  that it left behind, or the container's restart, needs time, and the next attempt then finds the version that the
  first one caused.
- The number of attempts and the time in which they begin are limited; time counts while this process runs.

(aiohttp asks once more for a file by itself if a connection ends before any answer; nothing is lost by that.)
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fdtcc_dagster.client.clock import AwakeClock
from fdtcc_dagster.errors import (
    ChecksumMismatchError,
    FdtccError,
    IdleTimeoutError,
    ServiceConnectionLostError,
    ServiceUnavailableError,
)

T = TypeVar("T")

RETRYABLE: tuple[type[FdtccError], ...] = (
    ServiceUnavailableError,
    ServiceConnectionLostError,
    IdleTimeoutError,
    ChecksumMismatchError,
)
"""The errors after which the same request may succeed."""

_LONGEST_SECONDS = 60.0


def is_retryable(error: BaseException) -> bool:
    """Tell whether the same request may succeed when it is made again.

    True for the errors marked retryable in `fdtcc_dagster.errors`, unless they are `permanent`, and for those that are
    `temporary`.
    """
    if isinstance(error, FdtccError) and error.temporary:
        return True
    return isinstance(error, RETRYABLE) and not getattr(error, "permanent", False)


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    *,
    attempts: int,
    within: float,
    delay: float,
    on_retry: Callable[[FdtccError, int, float], Awaitable[None]],
    settle: bool = False,
) -> T:
    """Make an attempt until it succeeds, one after the other, never two at a time.

    Args:
        attempt: What to do; called for each attempt.
        attempts: How many there are at most, at least 1.
        within: Seconds after which no further attempt begins; an attempt has a limit of its own.
        delay: Seconds before the second attempt; doubled each time, up to a minute, of which a random half to whole is
            waited.
        on_retry: Called before each wait with the failure, the number of the failed attempt, and the seconds to wait.
        settle: Whether a wait is also as long as the failed attempt lasted, up to a minute, with the same jitter.

    Returns:
        What the attempt returns.

    Raises:
        FdtccError: The last attempt's failure, or the first one after which none follows.
    """
    number = 1
    with AwakeClock(within) as clock:
        while True:
            began = clock()
            try:
                return await attempt()
            except FdtccError as error:
                whole = min(delay * 2.0 ** min(number - 1, 32), max(delay, _LONGEST_SECONDS))
                if settle:
                    whole = max(whole, min(clock() - began, _LONGEST_SECONDS))
                # Jitter keeps many runs that failed together from coming back together.
                seconds = whole * random.uniform(0.5, 1.0)  # noqa: S311 (no secret is made of it)
                if number >= attempts or not _asks_again(error) or clock() + seconds >= clock.until:
                    raise
                await on_retry(error, number, seconds)
                await asyncio.sleep(seconds)
                number += 1


def _asks_again(error: FdtccError) -> bool:
    """Silence is retryable, but it has cost its time already: whether to ask again is left to the caller."""
    return is_retryable(error) and not isinstance(error, IdleTimeoutError)
