from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import polars as pl
import pytest
from polars.io.plugins import register_io_source

from fdtcc_dagster.background import interruptibly, wait_for, when_interrupted
from fdtcc_dagster.interrupts import stop_scans, stoppable


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


@pytest.mark.usefixtures("interruptible")
def test_a_function_that_no_interrupt_reaches_has_ended_when_the_interrupt_is_raised() -> None:
    stopped = threading.Event()
    ended: list[bool] = []

    def work() -> None:
        timer.start()
        stopped.wait(60)
        time.sleep(0.1)
        ended.append(True)

    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interruptibly(work, stopped.set)
    assert ended == [True]
    assert time.monotonic() - started < 30


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_is_noticed_while_the_main_thread_is_in_polars() -> None:
    def slow(*_: object) -> Iterator[pl.DataFrame]:
        begun.set()
        for number in range(600):
            time.sleep(0.05)
            yield pl.DataFrame({"id": [number]})

    def interrupt() -> None:
        assert begun.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    def noticed(*_: object) -> None:
        raise KeyboardInterrupt

    begun = threading.Event()
    rows = register_io_source(lambda *arguments: stoppable(slow(*arguments)), schema={"id": pl.Int64()})
    signal.signal(signal.SIGINT, noticed)  # not Polars' own, as in a Dagster run
    started = time.monotonic()
    threading.Thread(target=interrupt).start()
    with pytest.raises((KeyboardInterrupt, RuntimeError, pl.exceptions.PolarsError)), when_interrupted(stop_scans):
        rows.collect()
    assert time.monotonic() - started < 15  # all of it takes 30 seconds
    assert signal.set_wakeup_fd(-1) == -1


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


@pytest.mark.usefixtures("interruptible")
def test_interrupts_are_given_back_also_in_another_order_and_to_none_who_has_gone() -> None:
    calls = {"first": 0, "second": 0}

    def count(name: str) -> None:
        calls[name] += 1

    first, second = (when_interrupted(partial(count, name)) for name in calls)
    threads = threading.active_count()
    before, gone = socket.socketpair()
    before.setblocking(False)
    signal.set_wakeup_fd(before.fileno())
    first.__enter__()
    before.close()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(KeyboardInterrupt):
        _interrupt()
    second.__exit__(None, None, None)
    assert signal.set_wakeup_fd(-1) == -1
    gone.close()
    assert calls == {"first": 0, "second": 1}
    assert threading.active_count() == threads


@pytest.mark.usefixtures("interruptible")
def test_interrupts_that_another_thread_cannot_give_back_are_written_to_nothing_else() -> None:
    calls: list[str] = []
    interrupts = when_interrupted(lambda: calls.append("stop"))
    interrupts.__enter__()
    collector = threading.Thread(target=interrupts.__exit__, args=(None, None, None))
    collector.start()
    collector.join()
    del interrupts, collector
    gc.collect()
    with pytest.raises(KeyboardInterrupt):
        _interrupt()
    left = signal.set_wakeup_fd(-1)
    deadline = time.monotonic() + 10
    while not calls and time.monotonic() < deadline:
        time.sleep(0.01)
    os.close(left)
    assert calls == ["stop"]
