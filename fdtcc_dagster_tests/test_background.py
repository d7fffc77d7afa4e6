from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from fdtcc_dagster.background import wait_for


def test_items_are_handled_in_the_calling_thread_in_order() -> None:
    seen: list[tuple[int, str]] = []

    async def work(report: Callable[[int], None]) -> str:
        for number in range(100):
            report(number)
            await asyncio.sleep(0)
        return threading.current_thread().name

    worker = wait_for(work, lambda number: seen.append((number, threading.current_thread().name)))
    assert seen == [(number, threading.current_thread().name) for number in range(100)]
    assert worker != threading.current_thread().name


def test_items_are_handled_as_they_are_reported() -> None:
    arrivals: list[float] = []

    async def work(report: Callable[[None], None]) -> None:
        for _ in range(3):
            report(None)
            await asyncio.sleep(0.2)

    wait_for(work, lambda _: arrivals.append(time.monotonic()))
    assert arrivals[2] - arrivals[0] > 0.3


def test_an_error_of_the_work_is_raised_after_the_last_item() -> None:
    seen: list[int] = []

    async def work(report: Callable[[int], None]) -> None:
        report(1)
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        wait_for(work, seen.append)
    assert seen == [1]


def test_work_that_waits_for_its_items_to_be_taken_does_not_pile_them_up() -> None:
    waiting: list[int] = []
    taken: list[int] = []

    async def work(report: Callable[[int], Awaitable[None]]) -> None:
        for number in range(500):
            await report(number)
            waiting.append(number - len(taken))

    def take(number: int) -> None:
        taken.append(number)
        time.sleep(0.0005)

    wait_for(work, take)
    assert taken == list(range(500))
    assert max(waiting) < 50


def forever(cleaned: list[bool]) -> Callable[[Callable[[int], None]], object]:
    async def work(report: Callable[[int], None]) -> None:
        try:
            report(1)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            cleaned.append(True)

    return work


def test_an_error_while_handling_an_item_cancels_the_work_and_waits_for_its_clean_up() -> None:
    cleaned: list[bool] = []

    def fail(item: int) -> None:
        raise LookupError("the log is full")

    with pytest.raises(LookupError):
        wait_for(forever(cleaned), fail)  # type: ignore[arg-type]  # a coroutine function
    assert cleaned == [True]


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_cancels_the_work_and_waits_for_its_clean_up() -> None:
    cleaned: list[bool] = []
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        wait_for(forever(cleaned), lambda item: timer.start())  # type: ignore[arg-type]  # a coroutine function
    assert cleaned == [True]
    assert time.monotonic() - started < 5
