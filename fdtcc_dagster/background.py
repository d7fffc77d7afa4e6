"""Waiting for async work in a thread that Dagster may interrupt.

Dagster interrupts a run by an exception in the main thread; raised inside an event loop's callback it would be
swallowed. So the loop runs in a helper thread, while the main one waits where an interrupt can reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_DONE: Any = object()
_SLICE_SECONDS = 0.5
_MOST_WAITING = 4
"""Items that are reported and not taken yet: the objects of a frame of 1 MiB may take 27."""
_POLL_SECONDS = 0.005


class Work(Generic[Item, Result]):
    """A coroutine that runs on an event loop of its own, in a helper thread, and reports items to this one.

    Use it as a context manager: leaving the block before the coroutine has ended, by an exception or an interrupt,
    cancels the coroutine and waits until it has cleaned up.

    Args:
        work: Called with a function that reports an item; returns the coroutine. What the function returns may be
            awaited, until this thread has taken enough of the items.
    """

    def __init__(self, work: Callable[[Callable[[Item], Any]], Coroutine[Any, Any, Result]]) -> None:
        self._work = work
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._result: Future[Result] = Future()
        self._running = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._thread = threading.Thread(target=self._run, name="fdtcc-pull", daemon=True)

    def __enter__(self) -> Work[Item, Result]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.wait()
        if self._loop is not None and self._task is not None and not self._result.done():
            # A loop that has closed in the meantime has nothing left to cancel.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        """Give the items in order, as they are reported, until the coroutine has ended."""
        while True:
            try:
                item = self._items.get(timeout=_SLICE_SECONDS)
            except queue.Empty:
                continue
            if item is _DONE:
                return
            yield item

    def result(self) -> Result:
        """Give what the coroutine returned, or raise what it raised; to be called after the last item."""
        return self._result.result()

    def _run(self) -> None:
        try:
            self._result.set_result(asyncio.run(self._main()))
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is awaited)
            self._result.set_exception(error)
        finally:
            self._running.set()
            self._items.put(_DONE)

    async def _main(self) -> Result:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._running.set()
        return await self._work(self._report)

    def _report(self, item: Item) -> Awaitable[None]:
        self._items.put(item)
        return _Backpressure(self._items)


class _Backpressure:
    """Waits until few items are in a queue; it need not be awaited."""

    def __init__(self, items: queue.SimpleQueue[Any]) -> None:
        self._items = items

    def __await__(self) -> Generator[Any, None, None]:
        while self._items.qsize() > _MOST_WAITING:
            yield from asyncio.sleep(_POLL_SECONDS).__await__()


def interruptibly(function: Callable[[], Result], stop: Callable[[], None]) -> Result:
    """Call a function that no interrupt reaches, such as one of Polars, in a helper thread.

    Args:
        function: The function.
        stop: Called, from time to time, when this thread is interrupted; lets the function end soon.

    Returns:
        What the function returns.

    Raises:
        BaseException: What the function raised; or what reached this thread, after the function has ended.
    """
    outcome: Future[Result] = Future()
    # Not `Thread.join`: up to Python 3.12, one that is interrupted takes the thread for ended.
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
        while not ended.wait(_SLICE_SECONDS):
            pass
    except BaseException:
        stop()
        while not ended.wait(_SLICE_SECONDS):
            stop()
        raise
    return outcome.result()


@contextlib.contextmanager
def when_interrupted(stop: Callable[[], None]) -> Iterator[None]:
    """Call a function when the process is interrupted, even while its main thread is where no interrupt reaches.

    It is for what other people's code does in the main thread: a signal is noticed there only when that code comes back
    from Polars.

    Args:
        stop: Called in a helper thread at each SIGINT and SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are none of this thread's business
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
    except (OSError, ValueError):  # it was closed in the meantime; its number may be something else's
        present = signal.set_wakeup_fd(-1)
    if present != ours:
        signal.set_wakeup_fd(present)


def wait_for(
    work: Callable[[Callable[[Item], Any]], Coroutine[Any, Any, Result]], on_item: Callable[[Item], None]
) -> Result:
    """Run a coroutine to its end, and pass on what it reports in the meantime.

    Args:
        work: Called with a function that reports an item; returns the coroutine. See `Work`.
        on_item: Called in this thread with every item, in order.

    Returns:
        What the coroutine returns.

    Raises:
        BaseException: What the coroutine raised; or what reached this thread, after the coroutine was cancelled and
            has cleaned up.
    """
    with Work(work) as running:
        for item in running:
            on_item(item)
        return running.result()
