"""`request` and `fetch`, the two halves of a pull, and `pull_sync`."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.snapshot import ArrivingSnapshot
from fdtcc_dagster.errors import DatasetNotFoundError
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.window import Window

CSV = "id\n1\n2\n"


async def test_what_is_announced_is_fetched_as_often_as_wanted(
    sandbox_container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    pointer = sandbox_container.set_live("orders", CSV)
    announcement = await client.request("orders", today.from_dt, today.to_dt)
    assert (announcement.sha256, announcement.announced_rows, announcement.origin) == (pointer, 2, "fetched")
    assert sandbox_container.downloads == {}
    arriving = ArrivingSnapshot.of(announcement, tmp_path)
    assert list(tmp_path.iterdir()) == []
    snapshot = await client.fetch(arriving, transport="zip")
    assert (snapshot.path.read_text(), snapshot.size_bytes) == (CSV, len(CSV))
    assert snapshot.seconds >= announcement.seconds
    assert arriving.scan({"id": "Int64"}).collect()["id"].to_list() == [1, 2]
    # A snapshot is an announcement, too.
    snapshot.path.unlink()
    again = await client.fetch(ArrivingSnapshot.of(snapshot, tmp_path))
    assert again.path.read_text() == CSV
    assert len(sandbox_container.requests) == 1


async def test_pull_sync_pulls_where_a_loop_is_running_and_calls_back_in_this_thread(
    sandbox_container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    sandbox_container.set_live("orders", "id\n1\n")
    threads: set[int] = set()
    snapshot = client.pull_sync(
        "orders",
        today.from_dt,
        today.to_dt,
        directory=tmp_path,
        on_message=lambda _: threads.add(threading.get_ident()),
    )
    assert snapshot.path.read_text() == "id\n1\n"
    assert threads == {threading.get_ident()}
    with pytest.raises(DatasetNotFoundError, match="'oders'"):
        client.pull_sync("oders", today.from_dt, today.to_dt, directory=tmp_path)
