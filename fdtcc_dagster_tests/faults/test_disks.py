"""Disks that are full or read-only: that of the spool, and that of the partitions' files."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    build_foundry_assets,
)
from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.download import Transport
from fdtcc_dagster.ingest import slices
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.faults.conftest import Mount
from fdtcc_dagster_tests.faults.scene import FRAME, NAME, Scene
from fdtcc_dagster_tests.faults.site import KEYS, LIVE, PREVIOUS, TODAY, WEEKLY, FaultySite
from fdtcc_dagster_tests.site import failure_of

FULL, READ_ONLY = "No space left on device", "Read-only file system"


async def pull(place: Scene, directory: Path, transport: Transport) -> None:
    now = datetime.now(timezone.utc)
    client = FoundryDevToolsContainerClient(place.proxy.host, place.proxy.port, retry_delay=0.01)
    await client.pull(NAME, now - timedelta(days=1), now + timedelta(days=1), directory=directory, transport=transport)


@pytest.mark.parametrize("transport", ["csv", "zip"])
@pytest.mark.parametrize("reason", [FULL, READ_ONLY])
async def test_pull_says_where_it_cannot_write_and_does_not_try_again(
    place: Scene, tmp_path: Path, mount: Mount, reason: str, transport: Transport
) -> None:
    mount(tmp_path, size="512k", read_only=reason == READ_ONLY)
    with pytest.raises(OSError, match=reason) as caught:
        await asyncio.wait_for(pull(place, tmp_path, transport), 30)
    assert f"dataset {NAME!r}, window " in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert place.attempts()[0] == 1
    assert place.attempts()[1] <= 1
    assert list(tmp_path.iterdir()) == []


def test_full_spool_leaves_the_partition_as_it_was(site: FaultySite, mount: Mount) -> None:
    site.store_previous()
    mount(site.spool, size="512k")
    text = failure_of(site.pull([LIVE]))
    assert FULL in text
    assert f"dataset {NAME!r}, window " in text
    assert site.scene.attempts() == (1, 1)
    assert site.contents() == {site.path(LIVE): PREVIOUS}


def test_full_spool_fails_only_what_does_not_fit(site: FaultySite, mount: Mount) -> None:
    mount(site.spool, size="512k")
    site.add_past_versions()
    text = failure_of(site.pull(KEYS))
    assert f"{LIVE}: OSError: [Errno 28] dataset {NAME!r}" in text
    assert "1 of 3 partitions failed" in text
    assert site.scene.attempts() == (1, 1)
    assert sorted(site.contents()) == [site.path(key) for key in KEYS[:-1]]


@pytest.mark.parametrize("held", [slices._HELD_BYTES, 1 << 20], ids=["at the end", "while it arrives"])
def test_slices_stop_before_the_spool_is_full(
    held: int, tmp_path: Path, mount: Mount, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "_HELD_BYTES", held)
    dataset = FoundryDataset(NAME, WEEKLY, TODAY - timedelta(days=30), time_column="at")
    keys = list(dataset.partitions_def.get_partition_keys())
    days = [dataset.window(key).from_dt.date().isoformat() for key in keys]
    csv = "id,at,token\n" + "".join(f"{n},{days[n % len(days)]},{'x' * 40}{n:08}\n" for n in range(200_000))
    (spool := tmp_path / "spool").mkdir()
    mount(spool, size="24m")
    with SandboxContainer() as container:
        container.set_live(NAME, csv)

        def run() -> dg.ExecuteInProcessResult:
            span = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
            resource = FoundryContainerResource(
                host=container.host, port=container.port, spool_directory=str(spool), attempts=1
            )
            store = FoundryParquetIOManager(base_dir=str(tmp_path / "parquet"))
            result = dg.materialize(
                build_foundry_assets([dataset], retry_policy=None),
                resources={"foundry_container": resource, "io_manager": store},
                instance=instance,
                tags=span,
                raise_on_error=False,
            )
            assert list(spool.iterdir()) == []
            return result

        text = failure_of(run())
        found = re.search(
            r"OSError: .* has (\d+) bytes left, (\d+) bytes into the slices of dataset 'orders', window", text
        )
        assert found, text
        assert "make room, or give another spool directory" in text
        left, written = map(int, found.groups())
        assert left > 0.02 * (24 << 20)
        assert written > 8 << 20
        assert not (tmp_path / "parquet").exists()
        mount(spool, size="64m")
        assert run().success
    stored = [pl.read_parquet(tmp_path / "parquet" / NAME / f"{key}.parquet") for key in keys]
    assert sum(frame.height for frame in stored) == 200_000


@pytest.mark.parametrize("keys", [[LIVE], KEYS], ids=["one", "several"])
def test_read_only_spool_is_noticed_before_the_container_is_asked(
    site: FaultySite, mount: Mount, keys: list[str]
) -> None:
    site.store_previous()
    mount(site.spool, read_only=True)
    text = failure_of(site.pull(keys))
    assert READ_ONLY in text
    assert str(site.spool) in text
    assert site.scene.attempts() == (0, 0)
    assert site.contents() == {site.path(LIVE): PREVIOUS}


def test_full_store_leaves_the_partition_as_it_was(site: FaultySite, mount: Mount) -> None:
    mount(site.parquet, size="128k")
    site.store_previous()
    text = failure_of(site.pull([LIVE]))
    assert f"OSError: [Errno 28] {FULL}: '{site.path(LIVE).parent}" in text
    assert site.scene.attempts() == (1, 1)
    assert site.contents() == {site.path(LIVE): PREVIOUS}
    mount(site.parquet, size="2m")
    assert site.pull([LIVE]).success
    assert pl.read_parquet(site.path(LIVE)).equals(FRAME)


def test_full_store_fails_only_what_does_not_fit(site: FaultySite, mount: Mount) -> None:
    mount(site.parquet, size="128k")
    site.add_past_versions()
    text = failure_of(site.pull(KEYS))
    assert f"{LIVE}: OSError: [Errno 28] {FULL}: '{site.path(LIVE).parent}" in text
    assert "1 of 3 partitions failed" in text
    assert sorted(site.contents()) == [site.path(key) for key in KEYS[:-1]]


@pytest.mark.parametrize("keys", [[LIVE], KEYS], ids=["one", "several"])
def test_read_only_store_stays_as_it_was(site: FaultySite, mount: Mount, keys: list[str]) -> None:
    mount(site.parquet)
    site.store_previous()
    mount(site.parquet, read_only=True)
    if len(keys) > 1:
        site.add_past_versions()
    text = failure_of(site.pull(keys))
    assert f"OSError: [Errno 30] {site.path(LIVE).parent} cannot be written to ({READ_ONLY}); set base_dir" in text
    assert site.contents() == {site.path(LIVE): PREVIOUS}
