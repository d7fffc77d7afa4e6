"""The retry policy of the client: which failures, how often, how long altogether, how long between attempts.

- Errors that may pass by themselves are *retryable*; `is_retryable` is the one place that decides.
- Of these, the client does not ask again after silence: it has cost its time already.
- Attempts follow one another, never two at a time, and the turn of the dataset is kept from the first to the last: the
  container's job runs on after a disconnect (S11), and two at once corrupt each other (S17).
- Waits double, with jitter. After a lost conversation they are also as long as it had lasted, up to a minute: the job
  that it has left behind, or the container's restart, needs time, and another attempt then finds the version that the
  first one caused.
- Both the number of attempts and the time in which they begin are limited; time counts while this process runs.

(aiohttp by itself asks once more for a file when a connection ends before any answer; nothing is lost or waited for.)
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

    Args:
        error: Any exception.

    Returns:
        True for the errors marked retryable in `fdtcc_dagster.errors`, unless they are `permanent`, and for
        those that are `temporary`; False for all else.
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
    """Make an attempt until it succeeds, one after the other, never two at a time (S11).

    Args:
        attempt: What to do; called anew each time.
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
