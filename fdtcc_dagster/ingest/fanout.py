"""Pulling several windows of one dataset at once, each read as it arrives and handed over as soon as it is complete."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from fdtcc_dagster.background import Work
from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot
from fdtcc_dagster.client.download import Transport
from fdtcc_dagster.client.protocol import Message, MissingVersion
from fdtcc_dagster.client.snapshot import Announcement, ArrivingSnapshot
from fdtcc_dagster.evidence import Evidence
from fdtcc_dagster.ingest.overlap import fetch_and_read
from fdtcc_dagster.redaction import LOGGED, excerpt
from fdtcc_dagster.window import Window

Result = TypeVar("Result")


@dataclass(frozen=True)
class Said:
    """A message of the container, or of the client itself.

    Attributes:
        key: The partition whose pull it belongs to.
        message: The message, redacted, with no more of it than is shown.
        is_notice: Whether the client says it; a container could claim that.
    """

    key: str
    message: Message
    is_notice: bool = False


@dataclass(frozen=True)
class Received:
    """Progress of a download.

    Attributes:
        key: The partition whose pull it belongs to.
        size_bytes: How many bytes have arrived.
        total_bytes: How many there will be, or None where nobody said so.
    """

    key: str
    size_bytes: int
    total_bytes: int | None


@dataclass(frozen=True)
class Unchanged:
    """The end of a pull that was not needed.

    Attributes:
        key: The partition.
        announcement: What the container has, which is there already.
    """

    key: str
    announcement: Announcement


@dataclass(frozen=True)
class Done(Generic[Result]):
    """The end of a pull.

    Attributes:
        key: The partition.
        snapshot: The verified snapshot, whose file is gone.
        result: What became of its rows.
    """

    key: str
    snapshot: Snapshot
    result: Result


@dataclass(frozen=True)
class Failed:
    """The end of a pull or of its reading.

    Attributes:
        key: The partition.
        error: What went wrong.
    """

    key: str
    error: Exception


def pull_each(
    client: FoundryDevToolsContainerClient,
    name: str,
    windows: Mapping[str, Window],
    read: Callable[[str, ArrivingSnapshot], Result],
    *,
    is_there: Callable[[str, Announcement], bool],
    evidence: Callable[[str], Evidence],
    spool: Path,
    limit: int,
    transport: Transport,
    missing_version: MissingVersion,
) -> Work[Said | Received | Unchanged | Done[Result] | Failed, None]:
    """Pull a dataset once for each window, and read each snapshot as it arrives.

    The conversations with the container follow one another, while downloads and readings overlap.

    Args:
        client: A client of the container.
        name: The dataset's name.
        windows: Partition key → window, in the order in which they are requested.
        read: Reads a partition's rows; called in threads.
        is_there: Says whether what the container announces for a partition is there already, and need not be pulled.
        evidence: Gives where it is kept what is known of a partition's snapshots.
        spool: A directory for the snapshots' files.
        limit: How many pulls are under way at a time, and so how many files are in the spool at most.
        transport: `"csv"` or `"zip"`.
        missing_version: `"raise"` or `"accept"`.

    Returns:
        What to enter and iterate over: messages and progress as they arrive, and for each key its end.

    Raises:
        ValueError: The limit is less than 1.
    """
    if limit < 1:
        raise ValueError(f"max_concurrency={limit} must be at least 1")

    async def work(report: Callable[[Said | Received | Unchanged | Done[Result] | Failed], Any]) -> None:
        slots, turn = asyncio.Semaphore(limit), asyncio.Lock()

        async def pull(key: str, window: Window, directory: Path) -> Unchanged | Done[Result]:
            def said(message: Message, *, is_notice: bool = False) -> Any:
                shown = {
                    "type": excerpt(message.get("type")),
                    "success": message.get("success") is not False,
                    "message": excerpt(message.get("message"), LOGGED),
                }
                return report(Said(key, shown, is_notice))

            # That these wait for each other is nothing to be told.
            async with turn:
                announcement = await client.request(
                    name,
                    window.from_dt,
                    window.to_dt,
                    on_message=said,
                    on_notice=partial(said, is_notice=True),
                    missing_version=missing_version,
                    evidence=evidence(key),
                )
            if is_there(key, announcement):
                return Unchanged(key, announcement)
            os.mkdir(directory)
            try:
                snapshot, result = await fetch_and_read(
                    client,
                    announcement,
                    lambda arriving: read(key, arriving),
                    directory=directory,
                    transport=transport,
                    on_progress=lambda size, total: report(Received(key, size, total)),
                    on_notice=partial(said, is_notice=True),
                )
            finally:
                shutil.rmtree(directory, ignore_errors=True)
            return Done(key, snapshot, result)

        async def pull_one(key: str, window: Window, directory: Path) -> None:
            async with slots:
                try:
                    report(await pull(key, window, directory))
                except Exception as error:  # noqa: BLE001 (it is this pull's end, and not the end of the others)
                    report(Failed(key, error))

        await asyncio.gather(
            *(pull_one(key, window, spool / str(number)) for number, (key, window) in enumerate(windows.items()))
        )

    return Work(work)
