"""Works on several blocks at a time, with results in the blocks' order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import polars as pl

Result = TypeVar("Result")

_MOST_THREADS = 4
"""Each holds one block and its result."""
_MOST_BYTES = 32 << 20
"""More are held only if a single block has more."""
_TIMEOUT_SECONDS = 2.0
"""Many times as long as the work on a block takes."""


def ordered_map(work: Callable[[bytes], Result], blocks: Iterable[bytes]) -> Iterator[Result]:
    """Call a function with each of many blocks, in half as many threads as Polars has, at most four.

    The other half is for Polars, which stores the results; more threads would only compete for the processor.

    The caller's thread may be one of Polars' own, in which some versions and engines read a source. If all of these
    wait here, work that needs one of them stands still. So if a block takes too long, the caller's thread works on it
    again, where Polars needs no other thread, and on all following ones.

    Args:
        work: The function; calling it twice for a block must do no harm.
        blocks: The blocks; only as many are taken as are worked on, and no other one beside a very large one.

    Yields:
        The results, in the order of the blocks.

    Raises:
        Exception: The function raised it for a block; it comes after the results of earlier blocks.
    """
    threads = max(1, min(pl.thread_pool_size() // 2, _MOST_THREADS))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fdtcc-parse")
    under_way: deque[tuple[bytes, Future[Result]]] = deque()
    alone = False
    held = 0

    def first_result() -> Result:
        nonlocal alone, held
        block, future = under_way.popleft()
        held -= len(block)
        alone = alone or not wait([future], _TIMEOUT_SECONDS).done
        return future.result() if future.done() else work(block)

    try:
        for block in blocks:
            if alone:
                yield from (first_result() for _ in range(len(under_way)))
                yield work(block)
                continue
            while under_way and held + len(block) > _MOST_BYTES:
                yield first_result()
            held += len(block)
            under_way.append((block, pool.submit(work, block)))
            if len(under_way) > threads:
                yield first_result()
        while under_way:
            yield first_result()
    except GeneratorExit:
        # The garbage collector may run in one of these threads, which could not wait for itself.
        alone = True
        raise
    finally:
        pool.shutdown(wait=not alone, cancel_futures=True)
