from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fdtcc_dagster.client.retry import RETRYABLE, retrying
from fdtcc_dagster.errors import (
    DatasetNotFoundError,
    FdtccError,
    IdleTimeoutError,
    NoVersionInWindowError,
    ServiceConnectionLostError,
    ServiceUnavailableError,
)


class Attempts:
    """Fails with each of the given errors in turn, then succeeds; keeps what happened."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.seconds: list[float] = []
        self.calls = 0
        self.running = 0
        self.waits: list[tuple[FdtccError, int, float]] = []

    async def __call__(self) -> str:
        assert self.running == 0, "two attempts at a time"
        self.running += 1
        self.calls += 1
        try:
            await asyncio.sleep(self.seconds.pop(0) if self.seconds else 0)
            if self.failures:
                raise self.failures.pop(0)
            return "done"
        finally:
            self.running -= 1

    async def on_retry(self, error: FdtccError, number: int, seconds: float) -> None:
        self.waits.append((error, number, seconds))

    async def run(self, attempts: int = 3, delay: float = 0.0, within: float = 60.0, settle: bool = False) -> str:
        return await retrying(
            self, attempts=attempts, within=within, delay=delay, on_retry=self.on_retry, settle=settle
        )


async def test_success_is_returned_at_once() -> None:
    attempts = Attempts()
    assert await attempts.run(attempts=1) == "done"
    assert (attempts.calls, attempts.waits) == (1, [])


@pytest.mark.parametrize("kind", sorted(set(RETRYABLE) - {IdleTimeoutError}, key=str))
async def test_retryable_failure_is_followed_by_another_attempt(kind: type[FdtccError]) -> None:
    first, second = kind("first"), kind("second")
    attempts = Attempts(first, second)
    assert await attempts.run() == "done"
    assert attempts.calls == 3
    assert [(error, number) for error, number, _ in attempts.waits] == [(first, 1), (second, 2)]


async def test_last_failure_is_raised_when_attempts_are_used_up() -> None:
    failures = [ServiceUnavailableError(str(number)) for number in range(5)]
    attempts = Attempts(*failures)
    with pytest.raises(ServiceUnavailableError) as caught:
        await attempts.run(attempts=3)
    assert caught.value is failures[2]
    assert (attempts.calls, len(attempts.waits)) == (3, 2)


@pytest.mark.parametrize(
    "failure",
    [
        DatasetNotFoundError("x"), NoVersionInWindowError("x"), IdleTimeoutError("x"), ValueError("x"), OSError("x"),
        asyncio.CancelledError(),
    ],
)  # fmt: skip
async def test_other_failures_are_raised_at_once(failure: BaseException) -> None:
    """Silence has used enough time already, although its error is retryable."""
    attempts = Attempts(failure)
    with pytest.raises(type(failure)):
        await attempts.run()
    assert (attempts.calls, attempts.waits) == (1, [])


async def test_waits_double_and_are_jittered() -> None:
    first: list[float] = []
    for _ in range(20):
        attempts = Attempts(*(ServiceConnectionLostError("x") for _ in range(3)))
        await attempts.run(attempts=4, delay=0.002)
        for (_, number, seconds), whole in zip(attempts.waits, (0.002, 0.004, 0.008), strict=True):
            assert whole / 2 <= seconds <= whole, number
        first.append(attempts.waits[0][2])
    assert len(set(first)) > 1


async def test_waits_stay_finite_however_many_attempts_there_are() -> None:
    attempts = Attempts(*(ServiceConnectionLostError("x") for _ in range(1100)))
    assert await attempts.run(attempts=2000) == "done"
    assert attempts.calls == 1101


async def test_no_attempt_begins_when_the_time_is_up() -> None:
    attempts = Attempts(*(ServiceConnectionLostError("x") for _ in range(3)))
    attempts.seconds = [0.0, 0.3]
    with pytest.raises(ServiceConnectionLostError):
        await attempts.run(within=0.2)
    assert (attempts.calls, len(attempts.waits)) == (2, 1)


async def test_no_wait_goes_beyond_the_time() -> None:
    attempts = Attempts(*(ServiceUnavailableError("x") for _ in range(3)))
    with pytest.raises(ServiceUnavailableError):
        await attempts.run(delay=60.0, within=20.0)
    assert (attempts.calls, attempts.waits) == (1, [])


async def test_what_a_failed_attempt_has_left_behind_may_settle() -> None:
    """Its job may still run, or the container is restarting: docs/protocol.md#when-a-client-goes-away."""
    for settle in (True, False):
        attempts = Attempts(ServiceConnectionLostError("x"), ServiceConnectionLostError("y"))
        attempts.seconds = [0.2, 0.0, 0.0]
        await attempts.run(settle=settle)
        (_, _, first), (_, _, second) = attempts.waits
        assert first >= 0.1 if settle else first == 0.0
        assert second < 0.1


async def test_wait_is_waited_and_can_be_cancelled() -> None:
    attempts = Attempts(ServiceUnavailableError("x"))
    task: asyncio.Task[Any] = asyncio.ensure_future(attempts.run(delay=60.0))
    await asyncio.sleep(0.05)
    assert attempts.calls == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert attempts.calls == 1
