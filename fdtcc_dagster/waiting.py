"""Waiting for async work in a thread that Dagster may interrupt."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_DONE: Any = object()
_SLICE_SECONDS = 0.5


class _Worker(threading.Thread, Generic[Item, Result]):
    """Runs one coroutine on an event loop of its own."""

    def __init__(self, work: Callable[[Callable[[Item], None]], Coroutine[Any, Any, Result]]) -> None:
        super().__init__(name="fdtcc-pull", daemon=True)
        self.items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self.result: Future[Result] = Future()
        self._work = work
        self._running = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def run(self) -> None:
        try:
            self.result.set_result(asyncio.run(self._main()))
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is awaited)
            self.result.set_exception(error)
        finally:
            self._running.set()
            self.items.put(_DONE)

    async def _main(self) -> Result:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._running.set()
        return await self._work(self.items.put)

    def cancel(self) -> None:
        """Cancel the coroutine, and wait until it has cleaned up."""
        self._running.wait()
        if self._loop is not None and self._task is not None and not self.result.done():
            # A loop that has closed in the meantime has nothing left to cancel.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)
        self.join()


def wait_for(
    work: Callable[[Callable[[Item], None]], Coroutine[Any, Any, Result]], on_item: Callable[[Item], None]
) -> Result:
    """Run a coroutine to its end, and pass on what it reports in the meantime.

    Dagster interrupts a run by an exception in the main thread; raised inside an event loop's callback it would be
    swallowed. So the loop runs in a helper thread, while this one waits where an interrupt can reach it.

    Args:
        work: Called with a function that reports an item; returns the coroutine.
        on_item: Called in this thread with every item, in order.

    Returns:
        What the coroutine returns.

    Raises:
        BaseException: What the coroutine raised; or what reached this thread, after the coroutine was cancelled and
            has cleaned up.
    """
    worker = _Worker(work)
    worker.start()
    try:
        # A loop right here would jump back outside of what CPython 3.11 counts as the block: an interrupt that comes
        # at that instruction would pass the handler by.
        _pass_on(worker, on_item)
    except BaseException:
        worker.cancel()
        raise
    worker.join()
    return worker.result.result()


def _pass_on(worker: _Worker[Item, Any], on_item: Callable[[Item], None]) -> None:
    while True:
        try:
            item = worker.items.get(timeout=_SLICE_SECONDS)
        except queue.Empty:
            continue
        if item is _DONE:
            return
        on_item(item)
