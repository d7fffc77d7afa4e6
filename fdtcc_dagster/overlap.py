"""Reading a snapshot while it arrives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot
from fdtcc_dagster.client.errors import FdtccError
from fdtcc_dagster.client.snapshot import Announcement, ArrivingSnapshot
from fdtcc_dagster.client.stopping import stop_scans
from fdtcc_dagster.client.transfer import OnProgress, Transport

Result = TypeVar("Result")

_STOP_SECONDS = 0.1
_readers = threading.BoundedSemaphore(2)
"""Parsing and storing use all cores by themselves: more at a time would only cost memory. Downloads go on meanwhile."""


async def fetch_and_read(
    client: FoundryDevToolsContainerClient,
    announcement: Announcement,
    read: Callable[[ArrivingSnapshot], Result],
    *,
    directory: Path,
    transport: Transport,
    on_progress: OnProgress | None = None,
) -> tuple[Snapshot, Result]:
    """Download a snapshot, and read it in another thread as its bytes arrive.

    The end of the download comes first: rows that do not fit may be bytes that were altered on their way. Where
    another attempt brings other bytes than those that were read, they are read again.

    Args:
        client: The client that made the announcement.
        announcement: Which snapshot.
        read: Reads the rows, from the first to the last; called in a thread, for two snapshots of a process at a time.
        directory: Where the snapshot's file is put.
        transport: `"csv"` or `"zip"`.
        on_progress: As for `FoundryDevToolsContainerClient.fetch`.

    Returns:
        The verified snapshot, and what `read` returned.

    Raises:
        FdtccError: What ended the download; or else what `read` raised.
        Exception: What `read` raised. If that is no `FdtccError`, such as a full disk, the download is given up.
    """
    loop = asyncio.get_running_loop()
    arriving = ArrivingSnapshot.of(announcement, directory)
    with ThreadPoolExecutor(1, thread_name_prefix="fdtcc-read") as thread:
        reading = loop.run_in_executor(thread, _read, read, arriving)
        fetching = asyncio.ensure_future(client.fetch(arriving, transport=transport, on_progress=on_progress))
        both: set[asyncio.Future[Any]] = {fetching, reading}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            error = reading.exception() if reading.done() else None
            if error is not None and not isinstance(error, FdtccError) and arriving.file.error is None:
                raise error
            snapshot = await fetching
            try:
                return snapshot, await reading
            except FdtccError:
                if arriving.file.version == 0:
                    raise
                return snapshot, await loop.run_in_executor(thread, _read, read, arriving)
        except asyncio.CancelledError:
            while not reading.done():
                stop_scans()
                await asyncio.wait({reading}, timeout=_STOP_SECONDS)
            raise
        finally:
            fetching.cancel()
            await asyncio.wait(both)


def _read(read: Callable[[ArrivingSnapshot], Result], arriving: ArrivingSnapshot) -> Result:
    with _readers:
        return read(arriving)
