"""Pulling several windows of one dataset at once, each handed over as soon as it has arrived."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot, Window
from fdtcc_dagster.client.protocol import Message, MissingVersion
from fdtcc_dagster.client.transfer import Transport
from fdtcc_dagster.waiting import Work

Outcome = Snapshot | Exception


@dataclass(frozen=True)
class Said:
    """A message of the container.

    Attributes:
        key: The partition whose pull it belongs to.
        message: The message, redacted.
    """

    key: str
    message: Message


@dataclass(frozen=True)
class Received:
    """Progress of a download.

    Attributes:
        key: The partition whose pull it belongs to.
        size_bytes: How many bytes have arrived.
    """

    key: str
    size_bytes: int


@dataclass(frozen=True)
class Arrived:
    """The end of a pull.

    Attributes:
        key: The partition.
        outcome: The snapshot, or why there is none.
        handled: To be called when the snapshot's file is not needed any more: it is removed, and another pull begins.
    """

    key: str
    outcome: Outcome
    handled: Callable[[], None]


def pull_each(
    client: FoundryDevToolsContainerClient,
    name: str,
    windows: Mapping[str, Window],
    *,
    spool: Path,
    limit: int,
    transport: Transport,
    missing_version: MissingVersion,
) -> Work[Said | Received | Arrived, None]:
    """Pull a dataset once for each window.

    The conversations with the container follow one another (S17), while downloads overlap with them and with the
    handling of what has arrived.

    Args:
        client: A client of the container.
        name: The dataset's name.
        windows: Partition key → window, in the order in which they are requested.
        spool: A directory for the snapshots' files.
        limit: How many pulls are under way or waiting to be handled at a time, and so how many files are in the spool.
        transport: `"csv"` or `"zip"`.
        missing_version: `"raise"` or `"accept"`.

    Returns:
        What to enter and iterate over: messages and progress as they arrive, and one `Arrived` for each key, which must
        be handled for the iteration to end.

    Raises:
        ValueError: The limit is less than 1.
    """
    if limit < 1:
        raise ValueError(f"max_concurrency={limit} must be at least 1")

    async def work(report: Callable[[Said | Received | Arrived], None]) -> None:
        loop, slots = asyncio.get_running_loop(), asyncio.Semaphore(limit)

        async def pull_one(key: str, window: Window, directory: Path) -> None:
            async with slots:
                outcome: Outcome
                try:
                    os.mkdir(directory)
                    outcome = await client.pull(
                        name,
                        window.from_dt,
                        window.to_dt,
                        directory=directory,
                        on_message=lambda message: report(Said(key, message)),
                        on_progress=lambda size: report(Received(key, size)),
                        transport=transport,
                        missing_version=missing_version,
                    )
                except Exception as error:  # noqa: BLE001 (it is this pull's outcome, and not the end of the others)
                    outcome = error
                handled = asyncio.Event()
                report(Arrived(key, outcome, lambda: _call_soon(loop, handled.set)))
                await handled.wait()
                if isinstance(outcome, Snapshot):
                    outcome.path.unlink(missing_ok=True)

        await asyncio.gather(
            *(pull_one(key, window, spool / str(number)) for number, (key, window) in enumerate(windows.items()))
        )

    return Work(work)


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(function)
