"""Work on several items at a time, with results in the items' order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import polars as pl

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_THREADS = 4
"""Each holds one item and its result."""


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Call a function with each of many items, in as many threads as Polars has, but a few at most.

    Args:
        work: The function.
        items: The items; only as many are taken as are worked on.

    Yields:
        The results, in the order of the items.

    Raises:
        Exception: What the function raised for an item, after the results of those before it.
    """
    threads = min(pl.thread_pool_size(), _MOST_THREADS)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fdtcc-parse")
    under_way: deque[Future[Result]] = deque()
    abandoned = False
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) > threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except GeneratorExit:
        # Garbage is collected in any thread, also in one of these, which could not wait for itself.
        abandoned = True
        raise
    finally:
        pool.shutdown(wait=not abandoned, cancel_futures=True)
