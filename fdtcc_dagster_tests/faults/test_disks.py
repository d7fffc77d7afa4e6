"""Disks that are full or read-only: that of the spool, and that of the partitions' files."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.transfer import Transport
from fdtcc_dagster_tests.faults.conftest import Mount
from fdtcc_dagster_tests.faults.scene import FRAME, NAME, Scene
from fdtcc_dagster_tests.faults.site import KEYS, LIVE, PREVIOUS, Site, failure_of

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


def test_full_spool_leaves_the_partition_as_it_was(site: Site, mount: Mount) -> None:
    site.store_previous()
    mount(site.spool, size="512k")
    text = failure_of(site.run([LIVE]))
    assert FULL in text
    assert f"dataset {NAME!r}, window " in text
    assert site.scene.attempts() == (1, 1)
    assert site.files() == {site.path(LIVE): PREVIOUS}


def test_full_spool_fails_only_what_does_not_fit(site: Site, mount: Mount) -> None:
    mount(site.spool, size="512k")
    site.add_past_versions()
    text = failure_of(site.run(KEYS))
    assert f"{LIVE}: OSError: [Errno 28] dataset {NAME!r}" in text
    assert "1 of 3 partitions failed" in text
    assert site.scene.attempts() == (1, 1)
    assert sorted(site.files()) == [site.path(key) for key in KEYS[:-1]]


@pytest.mark.parametrize("keys", [[LIVE], KEYS], ids=["one", "several"])
def test_read_only_spool_is_noticed_before_the_container_is_asked(site: Site, mount: Mount, keys: list[str]) -> None:
    site.store_previous()
    mount(site.spool, read_only=True)
    text = failure_of(site.run(keys))
    assert READ_ONLY in text
    assert str(site.spool) in text
    assert site.scene.attempts() == (0, 0)
    assert site.files() == {site.path(LIVE): PREVIOUS}


def test_full_store_leaves_the_partition_as_it_was(site: Site, mount: Mount) -> None:
    mount(site.parquet, size="128k")
    site.store_previous()
    text = failure_of(site.run([LIVE]))
    assert f"OSError: [Errno 28] {FULL}: '{site.path(LIVE).parent}" in text
    assert site.scene.attempts() == (1, 1)
    assert site.files() == {site.path(LIVE): PREVIOUS}
    mount(site.parquet, size="2m")
    assert site.run([LIVE]).success
    assert pl.read_parquet(site.path(LIVE)).equals(FRAME)


def test_full_store_fails_only_what_does_not_fit(site: Site, mount: Mount) -> None:
    mount(site.parquet, size="128k")
    site.add_past_versions()
    text = failure_of(site.run(KEYS))
    assert f"{LIVE}: OSError: [Errno 28] {FULL}: '{site.path(LIVE).parent}" in text
    assert "1 of 3 partitions failed" in text
    assert sorted(site.files()) == [site.path(key) for key in KEYS[:-1]]


@pytest.mark.parametrize("keys", [[LIVE], KEYS], ids=["one", "several"])
def test_read_only_store_stays_as_it_was(site: Site, mount: Mount, keys: list[str]) -> None:
    mount(site.parquet)
    site.store_previous()
    mount(site.parquet, read_only=True)
    if len(keys) > 1:
        site.add_past_versions()
    text = failure_of(site.run(keys))
    assert f"OSError: [Errno 30] {READ_ONLY}: '{site.path(LIVE).parent}" in text
    assert site.files() == {site.path(LIVE): PREVIOUS}
