"""What all connections of one sandbox share: its data, its faults, its settings, and what was seen."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fdtcc_dagster.sandbox.blobs import Blobs
from fdtcc_dagster.sandbox.fault_hooks import FaultBook
from fdtcc_dagster.sandbox.store import Store

_Result = TypeVar("_Result")


class Service:
    """The state of a sandbox.

    Args:
        store: The datasets.
        blobs: The files behind them.
        keepalive_interval: Seconds between keepalives.
        batch_size: Rows beyond which a dataset is pulled in batches.
        pull_seconds: Seconds that Foundry needs for a live pull.
    """

    def __init__(
        self, store: Store, blobs: Blobs, *, keepalive_interval: float, batch_size: int, pull_seconds: float
    ) -> None:
        self.store = store
        self.blobs = blobs
        self.faults = FaultBook()
        self.seen = Observations()
        self.keepalive_interval = keepalive_interval
        self.batch_size = batch_size
        self.pull_seconds = pull_seconds
        # Set when the sandbox stops: a blocked loop must not block that.
        self.stopping = threading.Event()
        # Jobs whose clients have gone.
        self.left_behind: set[asyncio.Task[None]] = set()


class Observations:
    """What the sandbox has seen. Written by its loop, read by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Any] = []
        self._sockets = 0
        self._downloads: Counter[str] = Counter()
        self._conversations: Counter[str] = Counter()
        self._most_conversations: Counter[str] = Counter()

    def request(self, request: Any) -> None:
        """Note a parsed request."""
        with self._lock:
            self._requests.append(request)

    def download(self, pointer: str) -> None:
        """Note a download that is answered by a body."""
        with self._lock:
            self._downloads[pointer] += 1

    @contextmanager
    def socket(self) -> Iterator[None]:
        """Note an open WebSocket."""
        with self._lock:
            self._sockets += 1
        try:
            yield
        finally:
            with self._lock:
                self._sockets -= 1

    def begin(self, names: Iterable[str]) -> None:
        """Note that a conversation about datasets begins."""
        with self._lock:
            for name in names:
                self._conversations[name] += 1
                self._most_conversations[name] = max(self._most_conversations[name], self._conversations[name])

    def end(self, names: Iterable[str]) -> None:
        """Note that a conversation has ended."""
        with self._lock:
            self._conversations.subtract(names)

    def requests(self) -> list[Any]:
        """Return the requests, oldest first."""
        with self._lock:
            return list(self._requests)

    def sockets(self) -> int:
        """Return the number of WebSockets that are open now."""
        with self._lock:
            return self._sockets

    def downloads(self) -> dict[str, int]:
        """Return the number of downloads by pointer."""
        with self._lock:
            return dict(self._downloads)

    def most_conversations(self) -> dict[str, int]:
        """Return the highest number of simultaneous conversations by dataset."""
        with self._lock:
            return dict(self._most_conversations)


async def in_thread(function: Callable[..., _Result], *args: Any) -> _Result:
    """Run blocking work beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)
