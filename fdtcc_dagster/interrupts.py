"""Stops work that no interrupt reaches.

An interrupt, such as Dagster's on termination, is an exception in the main thread, which Python raises only between two
steps of its own code. So long work runs in a helper thread, while the main one waits where an interrupt can reach it.
Then scans and uploads are told to stop, and the main thread waits for their end.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

Frame = TypeVar("Frame")
Result = TypeVar("Result")

_WAIT_SECONDS = 0.5
_STOP_SECONDS = 0.1

_stops = 0


def stop_scans() -> None:
    """Let every running scan and upload of this process fail soon; later ones are not affected."""
    global _stops
    _stops += 1


def watch_stops() -> Callable[[], bool]:
    """Return a function that tells whether `stop_scans` was called since."""
    began = _stops
    return lambda: _stops != began


def stoppable(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Yield the blocks of a scan; raise a `RuntimeError` after `stop_scans` was called."""
    stopped = watch_stops()
    for frame in frames:
        if stopped():
            raise RuntimeError("the scan was stopped")
        yield frame


def interruptibly(function: Callable[[], Result], stop: Callable[[], None] = stop_scans) -> Result:
    """Call a function that no interrupt reaches, such as one of Polars, in a helper thread.

    An interrupt of this thread is raised when the function has ended; until then, `stop` is called repeatedly.
    """
    outcome: Future[Result] = Future()
    # Not `Thread.join`: up to Python 3.12, an interrupted `join` takes the thread for ended.
    ended = threading.Event()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is awaited)
            outcome.set_exception(error)
        finally:
            ended.set()

    threading.Thread(target=run, name="fdtcc-call", daemon=True).start()
    try:
        while not ended.wait(_WAIT_SECONDS):
            pass
    except BaseException:
        stop()
        while not ended.wait(_WAIT_SECONDS):
            stop()
        raise
    return outcome.result()


async def cancellably(function: Callable[[], Result]) -> Result:
    """Call a function in a thread; a cancellation stops scans and uploads, and is raised when the function has ended.

    The event loop alone would cancel the future of the call, and let the thread run on.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="fdtcc-read") as thread:
        call = asyncio.get_running_loop().run_in_executor(thread, function)
        # Retrieve its error, so that asyncio does not report it if nobody waits any more.
        call.add_done_callback(lambda each: each.cancelled() or each.exception())
        try:
            await asyncio.wait({call})
        except asyncio.CancelledError:
            while not call.done():
                stop_scans()
                # Another cancellation must not leave this block: to join the thread blocks the loop, for which the
                # function may wait.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({call}, timeout=_STOP_SECONDS)
            raise
        return call.result()


@contextmanager
def when_interrupted(stop: Callable[[], None]) -> Iterator[None]:
    """Call a function in a helper thread when the process is interrupted, even if the main thread is busy elsewhere.

    It is for other people's code in the main thread: Python handles a signal only when that code returns from Polars.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread handles signals
        return
    told, teller = socket.socketpair()
    teller.setblocking(False)

    def watch() -> None:
        while number := told.recv(1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                stop()

    watcher = threading.Thread(target=watch, name="fdtcc-interrupts", daemon=True)
    watcher.start()
    previous = signal.set_wakeup_fd(teller.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        # A generator that has failed may be closed late, even by the garbage collector in another thread, which cannot
        # give the signals back: then what they are written to stays open.
        if threading.current_thread() is threading.main_thread():
            _give_signals_back(teller.fileno(), previous)
            teller.close()
            watcher.join()
            told.close()
        else:
            teller.detach()


def _give_signals_back(ours: int, previous: int) -> None:
    try:
        present = signal.set_wakeup_fd(previous)
    except (OSError, ValueError):  # it was closed in the meantime; another file may have its number
        present = signal.set_wakeup_fd(-1)
    if present != ours:
        signal.set_wakeup_fd(present)
