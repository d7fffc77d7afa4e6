"""Attempts at a dataset whose earlier job may still run in the container."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster_polars import PolarsParquetIOManager

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Schedule,
    build_foundry_assets,
)
from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot
from fdtcc_dagster.errors import IdleTimeoutError, RowCountMismatchError
from fdtcc_dagster.pandas_csv.schema import to_schema
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.window import Window
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


async def pull(container: SandboxContainer, window: Window, directory: Path, **limits: Any) -> Snapshot:
    client = FoundryDevToolsContainerClient(
        container.host,
        container.port,
        **{"retry_delay": 4.0, **limits},
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
    """The container announces no rows of the version that the retry finds, and it has lost all of them."""
    sparse = "id,name\n" + "".join(f"{10_000_000 + number},row\n" for number in range(ROWS + 1))
    container.set_live(NAME, sparse)
    container.inject(NAME, faults.ServiceRestart(ANNOUNCED))
    snapshot = await pull(container, today, tmp_path / "one")
    assert snapshot.origin == "cached"
    with pytest.raises(RowCountMismatchError, match="announced 20001 rows, but the CSV has 0"):
        snapshot.source.read(to_schema({"id": "Int64", "name": "String"}), lambda csv: csv.scan().collect())


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
    """Occasional bytes stay within the idle timeout, and a retry would be as slow."""
    container.inject(NAME, faults.ThrottledBody(1000.0))
    with pytest.raises(IdleTimeoutError, match=f"dataset '{NAME}', window .*within 2 s"):
        await pull(container, today, tmp_path / "one", transfer_timeout=2.0)
    assert sum(container.downloads.values()) == 1
    assert list((tmp_path / "one").iterdir()) == []


WEEKS = FoundryDataset(
    NAME,
    Schedule([{"cycle": "weekly", "day": "Monday", "time": "00:00:00"}]),
    "2025-01-06",
    {"id": "Int64", "at": "Date"},
    time_column="at",
)
KEYS = list(WEEKS.partitions_def.get_partition_keys())[:3]
DATED = "id,at\n" + "".join(f"{number},{key}\n" for number, key in enumerate(KEYS))


PATIENT = 5.0
"""Seconds between attempts, until the job that the client has left behind has ended."""


@pytest.fixture
def slow_container(ahead: timedelta) -> Iterator[SandboxContainer]:
    """A container that loses its first connection, and whose job then takes longer than its run's first second."""
    with SandboxContainer(clock=lambda: datetime.now(timezone.utc) + ahead, pull_seconds=1.5) as container:
        container.set_live(NAME, DATED)
        container.inject(NAME, faults.JobRunsOn())
        container.inject(NAME, faults.ServiceRestart(ANNOUNCED))
        yield container


def assert_one_version(container: SandboxContainer) -> None:
    assert len(container.requests) == 2
    assert len(container.versions(NAME)) == 1
    assert sum(container.downloads.values()) == 1


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(minutes=1)], ids=["", "its clock is ahead"])
@pytest.mark.parametrize(
    ("keys", "io_manager"),
    [(KEYS[:1], FoundryParquetIOManager), (KEYS, FoundryParquetIOManager), (KEYS[:1], PolarsParquetIOManager)],
    ids=["one", "several", "another IO manager"],
)
def test_slices_find_the_version_that_the_first_attempt_caused(
    slow_container: SandboxContainer, keys: Sequence[str], io_manager: Any, tmp_path: Path
) -> None:
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    result = dg.materialize(
        build_foundry_assets([WEEKS], retry_policy=None),
        resources={
            "foundry_container": FoundryContainerResource(
                host=slow_container.host, port=slow_container.port, attempts=2, retry_delay=PATIENT
            ),
            "io_manager": io_manager(base_dir=str(tmp_path)),
        },
        partition_key=keys[0] if len(keys) == 1 else None,
        tags=tags if len(keys) > 1 else None,
    )
    assert [pl.read_parquet(tmp_path / NAME / f"{key}.parquet")["id"].item() for key in keys] == list(range(len(keys)))
    for event in result.get_asset_materialization_events():
        assert event.materialization.metadata["foundry/origin"].value == "cached"
    assert_one_version(slow_container)


def weeks_job() -> dg.JobDefinition:
    """What a process of a run's step loads."""
    definitions = dg.Definitions(
        build_foundry_assets([WEEKS], retry_policy=dg.RetryPolicy(max_retries=1, delay=4)),
        jobs=[dg.define_asset_job("weeks")],
        resources={
            "foundry_container": FoundryContainerResource(
                port=int(os.environ["SLICES_PORT"]), host="127.0.0.1", attempts=1, retry_delay=PATIENT
            ),
            "io_manager": FoundryParquetIOManager(base_dir=os.environ["SLICES_DIRECTORY"]),
        },
    )
    return definitions.resolve_job_def("weeks")


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [timedelta(minutes=1)], ids=["its clock is ahead"])
def test_another_attempt_of_the_step_in_another_process_finds_it_too(
    slow_container: SandboxContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: Mapping[str, str] = {"SLICES_PORT": str(slow_container.port), "SLICES_DIRECTORY": str(tmp_path)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with dg.instance_for_test() as instance:
        job = dg.reconstructable(weeks_job)
        assert dg.execute_job(job, instance, tags={"dagster/partition": KEYS[0]}).success
        (run,) = instance.get_runs()
        steps = [log.dagster_event for log in instance.all_logs(run.run_id) if log.dagster_event]
    assert sum(event.event_type == dg.DagsterEventType.STEP_RESTARTED for event in steps) == 1
    assert_one_version(slow_container)
