"""Reads a snapshot while it arrives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot
from fdtcc_dagster.client.callbacks import UNOBSERVED, PullObserver
from fdtcc_dagster.client.download import Transport
from fdtcc_dagster.client.snapshot import Announcement, ArrivingSnapshot
from fdtcc_dagster.interrupts import cancellably

Result = TypeVar("Result")

_readers = threading.BoundedSemaphore(2)
"""Parsing and storing use all cores by themselves: more at a time would only cost memory. Downloads go on meanwhile."""


async def fetch_and_read(
    client: FoundryDevToolsContainerClient,
    announcement: Announcement,
    read: Callable[[ArrivingSnapshot], Result],
    *,
    directory: Path,
    transport: Transport,
    observer: PullObserver = UNOBSERVED,
) -> tuple[Snapshot, Result]:
    """Download a snapshot, and read it in another thread as its bytes arrive.

    The error of the download comes first, because rows that do not fit may be bytes that were altered on the way. If a
    retry brings other bytes than those that were read, they are read again.

    The arguments are those of `FoundryDevToolsContainerClient.fetch`, and `read`, which reads the rows from the first
    to the last. It is called for two snapshots of a process at a time.

    Returns:
        The verified snapshot, and what `read` returned.

    Raises:
        FdtccError: The download failed, or else `read` raised it.
        OSError: `read` raised it, for example because a disk is full; the download is cancelled at once.
        Exception: Any other error of `read`.
    """
    arriving = ArrivingSnapshot.of(announcement, directory)

    def read_in_turn() -> Result:
        with _readers:
            return read(arriving)

    fetching = asyncio.ensure_future(client.fetch(arriving, transport=transport, observer=observer))
    # When it has ended, readers must not wait for more bytes.
    fetching.add_done_callback(lambda _: arriving.file.close())
    reading = asyncio.ensure_future(cancellably(read_in_turn))
    try:
        await asyncio.wait({fetching, reading}, return_when=asyncio.FIRST_COMPLETED)
        error = reading.exception() if reading.done() else None
        # Altered bytes can make a reader fail in many ways, but not with an OSError.
        if isinstance(error, OSError) and arriving.file.error is None:
            raise error
        snapshot = await fetching
        await asyncio.wait({reading})
        if reading.exception() is not None and arriving.file.version > 0:
            return snapshot, await cancellably(read_in_turn)
        return snapshot, reading.result()
    except asyncio.CancelledError:
        # Not after other failures: it stops all scans of the process, and those of the other pulls go on.
        reading.cancel()
        raise
    finally:
        fetching.cancel()
        await asyncio.wait({fetching, reading})
        # Retrieve errors that are not raised, so that asyncio does not report them.
        for each in (fetching, reading):
            if not each.cancelled():
                each.exception()
