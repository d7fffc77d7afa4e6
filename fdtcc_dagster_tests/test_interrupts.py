from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import polars as pl
import pytest
from polars.io.plugins import register_io_source

from fdtcc_dagster.interrupts import cancellably, interruptibly, stop_scans, stoppable, when_interrupted


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


async def test_a_loop_runs_on_while_a_function_that_was_cancelled_twice_ends() -> None:
    """`asyncio.run` cancels once more what is left, and the function may wait for something that the loop does."""
    begun, awaited = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return awaited.wait(10)

    found: list[bool] = []
    task = asyncio.ensure_future(cancellably(lambda: found.append(work())))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.05)
    asyncio.get_running_loop().call_later(0.05, awaited.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert found == [True]


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
