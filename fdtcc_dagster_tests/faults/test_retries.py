"""Attempts at a dataset whose earlier job may still run in the container (S11, S17)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot, Window
from fdtcc_dagster.client.errors import IdleTimeoutError, RowCountMismatchError
from fdtcc_dagster.client.parsing import source_errors
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.faults.scene import CSV, NAME, ROWS, SHA256

ANNOUNCED = 4
"""The frame that says how many rows there are."""


@pytest.fixture
def container() -> Iterator[SandboxContainer]:
    """A container whose jobs take a moment, and run on when their clients have gone."""
    with SandboxContainer(pull_seconds=0.2, batch_size=ROWS) as container:
        container.set_live(NAME, CSV)
        container.inject(NAME, faults.JobRunsOn(), times=None)
        yield container


async def pull(container: SandboxContainer, window: Window, directory: Path, **limits: float) -> Snapshot:
    client = FoundryDevToolsContainerClient(
        container.host,
        container.port,
        **{"retry_delay": 4.0, **limits},  # type: ignore[arg-type]
    )
    directory.mkdir()
    return await client.pull(NAME, window.from_dt, window.to_dt, directory=directory)


async def test_a_retry_finds_the_version_that_the_first_attempt_caused(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    container.inject(NAME, faults.ServiceRestart(ANNOUNCED))
    snapshot = await pull(container, today, tmp_path / "one")
    assert (snapshot.sha256, snapshot.origin, snapshot.announced_rows) == (SHA256, "cached", ROWS)
    assert len(container.requests) == 2
    assert [sha256 for _, sha256 in container.versions(NAME)] == [SHA256]


async def test_no_other_pull_comes_between_two_attempts(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    container.inject(NAME, faults.ServiceRestart(ANNOUNCED))
    snapshots = await asyncio.gather(*(pull(container, today, tmp_path / str(number)) for number in range(3)))
    assert {snapshot.sha256 for snapshot in snapshots} == {SHA256}
    assert len(container.requests) == 4
    # A job that runs on counts as a conversation.
    assert container.max_conversations == {NAME: 1}
    assert [sha256 for _, sha256 in container.versions(NAME)] == [SHA256]


async def test_rows_that_were_announced_before_a_disconnect_must_be_there_after_it(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    """The container says nothing of rows about the version that the retry finds, and it has lost all of them (S18)."""
    sparse = "id,name\n" + "".join(f"{10_000_000 + number},row\n" for number in range(ROWS + 1))
    container.set_live(NAME, sparse)
    container.inject(NAME, faults.ServiceRestart(ANNOUNCED))
    snapshot = await pull(container, today, tmp_path / "one")
    assert snapshot.origin == "cached"
    with pytest.raises(RowCountMismatchError, match="announced 20001 rows, but the CSV has 0"), source_errors():
        snapshot.scan({"id": "Int64", "name": "String"}).collect()


async def test_the_time_of_a_job_is_that_of_all_attempts_together(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    container.inject(NAME, faults.ServiceRestart(0), times=None)
    began = datetime.now(timezone.utc)
    with pytest.raises(Exception, match=NAME):
        await pull(container, today, tmp_path / "one", retry_delay=0.05, attempts=100_000, job_timeout=2.0)
    assert datetime.now(timezone.utc) - began < timedelta(seconds=20)
    assert len(container.requests) > 1


async def test_a_download_that_never_ends_is_given_up(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    """Bytes that come now and then keep the idle limit, and a retry would fare no better."""
    container.inject(NAME, faults.ThrottledBody(1000.0))
    with pytest.raises(IdleTimeoutError, match=f"dataset '{NAME}', window .*within 2 s"):
        await pull(container, today, tmp_path / "one", transfer_timeout=2.0)
    assert sum(container.downloads.values()) == 1
    assert list((tmp_path / "one").iterdir()) == []
