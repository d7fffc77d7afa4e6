"""The retry policy of the client: which failures, how often, how long between attempts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fdtcc_dagster.client.errors import FdtccError, IdleTimeoutError, is_retryable

T = TypeVar("T")


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    *,
    attempts: int,
    delay: float,
    on_retry: Callable[[FdtccError, int, float], Awaitable[None]],
) -> T:
    """Make an attempt until it succeeds, one after the other, never two at a time (S11).

    Args:
        attempt: What to do; called anew each time.
        attempts: How many there are at most, at least 1.
        delay: Seconds before the second attempt; doubled each time, of which a random half to whole is waited.
        on_retry: Called before each wait with the failure, the number of the failed attempt, and the seconds to wait.

    Returns:
        What the attempt returns.

    Raises:
        FdtccError: The last attempt's failure, or the first one that is not retryable. A container that stayed silent
            for the idle limit has cost enough time: whether to ask again is left to the caller.
    """
    number = 1
    while True:
        try:
            return await attempt()
        except FdtccError as error:
            if number >= attempts or not is_retryable(error) or isinstance(error, IdleTimeoutError):
                raise
            # Jitter keeps many runs that failed together from coming back together.
            seconds = delay * 2 ** (number - 1) * random.uniform(0.5, 1.0)  # noqa: S311 (no secret is made of it)
            await on_retry(error, number, seconds)
            await asyncio.sleep(seconds)
            number += 1
