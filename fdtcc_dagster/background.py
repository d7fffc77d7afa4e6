"""Async work in a helper thread, while the calling thread waits where an interrupt can reach it.

Dagster interrupts a run by an exception in the main thread; inside an event loop's callback it would be lost. So the
loop runs in a helper thread, and reports to the calling thread what that has to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_DONE: Any = object()
_WAIT_SECONDS = 0.5
_MOST_WAITING = 4
"""Items that may wait in the queue: the objects of a frame of 1 MiB may take 27 MiB."""
_POLL_SECONDS = 0.005


class BackgroundTask(Generic[Item, Result]):
    """A coroutine that runs on its own event loop in a helper thread, and reports items to the calling thread.

    Use it as a context manager: leaving the block before the coroutine has ended, by an exception or an interrupt,
    cancels the coroutine and waits until it has cleaned up.

    Args:
        work: Called with a function that reports an item; returns the coroutine. The coroutine may await what the
            function returns, until the calling thread has taken most of the items.
    """

    def __init__(self, work: Callable[[Callable[[Item], Any]], Coroutine[Any, Any, Result]]) -> None:
        self._work = work
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._result: Future[Result] = Future()
        self._running = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._thread = threading.Thread(target=self._run, name="fdtcc-pull", daemon=True)

    def __enter__(self) -> BackgroundTask[Item, Result]:
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
        """Yield the items in the order in which they are reported, until the coroutine has ended."""
        while True:
            try:
                item = self._items.get(timeout=_WAIT_SECONDS)
            except queue.Empty:
                continue
            if item is _DONE:
                return
            yield item

    def result(self) -> Result:
        """Return or raise the coroutine's result; call it after the last item."""
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
    """Waits until few items are in a queue; awaiting it is optional."""

    def __init__(self, items: queue.SimpleQueue[Any]) -> None:
        self._items = items

    def __await__(self) -> Generator[Any, None, None]:
        while self._items.qsize() > _MOST_WAITING:
            yield from asyncio.sleep(_POLL_SECONDS).__await__()


def wait_for(
    work: Callable[[Callable[[Item], Any]], Coroutine[Any, Any, Result]], on_item: Callable[[Item], None]
) -> Result:
    """Run the work of a `BackgroundTask` to its end; `on_item` is called in this thread with each item."""
    with BackgroundTask(work) as task:
        for item in task:
            on_item(item)
        return task.result()
