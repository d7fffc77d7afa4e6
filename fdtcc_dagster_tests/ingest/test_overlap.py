"""Reading during a download: which of the two errors is raised, and how both end."""

from __future__ import annotations

import asyncio
import errno
import gc
import hashlib
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.snapshot import Announcement, ArrivingSnapshot, Snapshot
from fdtcc_dagster.errors import ChecksumMismatchError, SchemaMismatchError
from fdtcc_dagster.ingest.overlap import fetch_and_read
from fdtcc_dagster.interrupts import stoppable
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.window import Window

NAME = "orders"
CSV = "id,note\n" + "".join(f"{number},some text\n" for number in range(5_000))
SCHEMA = {"id": "Int64", "note": "String"}
SLOW = faults.ThrottledBody(2_000)
"""The whole takes a minute and a half: no test waits for that."""


class Reads:
    """A fetch whose reader is the test's."""

    def __init__(self, client: FoundryDevToolsContainerClient, announcement: Announcement, directory: Path) -> None:
        self.client, self.announcement, self.directory = client, announcement, directory

    async def __call__(self, read: Callable[[ArrivingSnapshot], int]) -> tuple[Snapshot, int]:
        return await fetch_and_read(self.client, self.announcement, read, directory=self.directory, transport="csv")


@pytest.fixture
async def reads(
    sandbox_container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> Reads:
    sandbox_container.set_live(NAME, CSV)
    return Reads(client, await client.request(NAME, today.from_dt, today.to_dt), tmp_path)


def rows_of(arriving: ArrivingSnapshot) -> int:
    return arriving.scan(SCHEMA).collect().height


def all_of(arriving: ArrivingSnapshot) -> int:
    with arriving.file.open() as file:
        while file.read(100):
            pass
    return arriving.file.size


def nothing_is_left(directory: Path) -> bool:
    names = {thread.name.split("_")[0] for thread in threading.enumerate()}
    return not list(directory.iterdir()) and not names & {"fdtcc-read", "fdtcc-write"}


async def test_it_gives_the_snapshot_and_what_was_read(reads: Reads) -> None:
    snapshot, rows = await reads(rows_of)
    assert rows == 5_000
    assert snapshot.path.read_text() == CSV
    assert snapshot.sha256 == hashlib.sha256(CSV.encode()).hexdigest()


@pytest.mark.parametrize("failure", [SchemaMismatchError, ValueError, pl.exceptions.ComputeError])
async def test_what_a_reader_says_of_altered_bytes_counts_for_nothing(
    reads: Reads, sandbox_container: SandboxContainer, failure: type[Exception]
) -> None:
    sandbox_container.inject(NAME, faults.FlippedBit(offset=3))
    seen: list[bytes] = []

    def read(arriving: ArrivingSnapshot) -> int:
        with arriving.file.open() as file:
            seen.append(file.read(8))
        if seen[-1] != CSV[:8].encode():
            raise failure("these are not the columns")
        return rows_of(arriving)

    _, rows = await reads(read)
    assert rows == 5_000
    assert seen == [b"id,oote\n", b"id,note\n"]


async def test_a_reader_in_the_midst_of_altered_bytes_reads_again(
    reads: Reads, sandbox_container: SandboxContainer
) -> None:
    sandbox_container.inject(NAME, faults.FlippedBit(offset=3))
    begun: list[ArrivingSnapshot] = []

    def read(arriving: ArrivingSnapshot) -> int:
        begun.append(arriving)
        return all_of(arriving)

    assert (await reads(read))[1] == len(CSV)
    assert len(begun) == 2


async def test_bytes_that_stay_altered_are_told_as_such(
    reads: Reads, sandbox_container: SandboxContainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox_container.inject(NAME, faults.FlippedBit(), times=None)

    def read(arriving: ArrivingSnapshot) -> int:
        raise SchemaMismatchError("these are not the columns")

    for each in (read, rows_of):
        with pytest.raises(ChecksumMismatchError, match="dataset 'orders', window"):
            await reads(each)
    assert nothing_is_left(tmp_path)
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_reader_s_own_failure_is_told_when_the_bytes_are_right(reads: Reads) -> None:
    calls = 0

    def read(arriving: ArrivingSnapshot) -> int:
        nonlocal calls
        calls += 1
        return arriving.scan({"id": "Int64", "note": "Int64"}).collect().height

    with pytest.raises((SchemaMismatchError, pl.exceptions.ComputeError), match="'note', row 1: 'some text'"):
        await reads(read)
    assert calls == 1


async def test_a_full_disk_of_the_store_ends_a_slow_download_at_once(
    reads: Reads, sandbox_container: SandboxContainer, tmp_path: Path
) -> None:
    sandbox_container.inject(NAME, SLOW, times=None)

    def read(arriving: ArrivingSnapshot) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await asyncio.wait_for(reads(read), 30)
    assert nothing_is_left(tmp_path)


async def test_a_cancellation_ends_a_reader_that_waits_for_bytes(
    reads: Reads, sandbox_container: SandboxContainer, tmp_path: Path
) -> None:
    sandbox_container.inject(NAME, SLOW, times=None)
    waiting, ended = threading.Event(), threading.Event()

    def read(arriving: ArrivingSnapshot) -> int:
        try:
            waiting.set()
            return all_of(arriving)
        finally:
            ended.set()

    task = asyncio.create_task(reads(read))
    assert await asyncio.to_thread(waiting.wait, 30)
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled()
    assert ended.is_set()
    assert nothing_is_left(tmp_path)


async def test_a_cancellation_ends_a_scan_that_goes_on_after_the_download(
    reads: Reads, sandbox_container: SandboxContainer, tmp_path: Path
) -> None:
    # It is read for a second time, after an attempt that was altered.
    sandbox_container.inject(NAME, faults.FlippedBit(offset=3))
    second = threading.Event()

    def read(arriving: ArrivingSnapshot) -> int:
        # A reader that is late opens the second attempt's bytes at once.
        while not arriving.file.version:
            all_of(arriving)
        second.set()
        for _ in stoppable(itertools.repeat(None)):
            time.sleep(0.01)
        return 0

    task = asyncio.create_task(reads(read))
    assert await asyncio.to_thread(second.wait, 30)
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled()


async def test_a_download_that_cannot_begin_ends_its_reader(reads: Reads, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="transport='tar'"):
        await asyncio.wait_for(
            fetch_and_read(reads.client, reads.announcement, rows_of, directory=tmp_path, transport="tar"),  # type: ignore[arg-type]
            30,
        )
    assert nothing_is_left(tmp_path)
