"""Who can read what lies on the disk, who can talk to the sandbox, and that no name becomes a path."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import stat
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from aiohttp import web

from fdtcc_dagster import FoundryContainerResource, FoundryDataset, FoundryParquetIOManager, build_foundry_assets
from fdtcc_dagster.client.directories import STATE_DIRECTORY
from fdtcc_dagster.client.local_evidence import LocalEvidence
from fdtcc_dagster.client.locks import exclusive
from fdtcc_dagster.client.protocol import check_pointer
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.conftest import ClientMaker
from fdtcc_dagster_tests.security.serving import http_server

PATHS = [
    "../../x",
    "..",
    ".",
    "/etc/passwd",
    "a/../../x",
    "..\\x",
    "C:\\x",
    "x\0.csv",
    "x" * 5000,
    "\u202e/..\u2215x",
    "%2e%2e%2fx",
    "\uff58" * 64,
    "\u0660" * 64,
    "0" * 63 + "/",
    "0" * 64 + "\n",
]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory of its own, as the system's is."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


async def test_a_snapshot_is_readable_to_its_user_only_while_it_arrives_and_after(
    sandbox_container: SandboxContainer, make_client: ClientMaker, today: Window, temporary: Path
) -> None:
    sandbox_container.set_live("orders", "id\n" + "1\n" * 200_000)
    sandbox_container.inject("orders", faults.ThrottledBody(400_000))
    resource = FoundryContainerResource(host=sandbox_container.host, port=sandbox_container.port)
    with resource.spool() as spool:
        assert mode(spool) == 0o700
        pull = asyncio.create_task(make_client().pull("orders", today.from_dt, today.to_dt, directory=spool))
        while not (arriving := list(spool.iterdir())):
            assert not pull.done()
            await asyncio.sleep(0.01)
        assert [mode(path) for path in arriving] == [0o600]
        assert mode((await pull).path) == 0o600
    assert not spool.exists()


async def test_locks_and_evidence_are_private_too(state: Path) -> None:
    async def wait() -> None: ...

    LocalEvidence("h:1", "../../orders").announce("a" * 64, 5)
    async with exclusive("h:1", "../../orders", wait, timeout=60):
        made = sorted((path.suffix, mode(path)) for path in state.rglob("*"))
    assert made == [("", 0o700), ("", 0o700), (".heartbeat", 0o600), (".json", 0o600), (".lock", 0o600)]


async def test_a_state_directory_of_others_is_not_used(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait() -> None: ...

    elsewhere, given = tmp_path / "elsewhere", tmp_path / "given"
    elsewhere.mkdir(mode=0o700)
    given.symlink_to(elsewhere)
    monkeypatch.setenv(STATE_DIRECTORY, str(given))
    with pytest.raises(PermissionError, match=f"remove it, or set {STATE_DIRECTORY}"):
        async with exclusive("h:1", "orders", wait, timeout=60):
            pass
    assert list(elsewhere.iterdir()) == []
    given.unlink()
    given.mkdir(mode=0o777)
    with pytest.raises(PermissionError, match="only this user"):
        async with exclusive("h:1", "orders", wait, timeout=60):
            pass


def test_the_sandbox_listens_on_loopback_only() -> None:
    with SandboxContainer() as container:
        assert container.host == "127.0.0.1"
        with socket.create_connection(("127.0.0.1", container.port), timeout=5):
            pass
        for other in ("127.0.0.2", "::1"):
            with pytest.raises(OSError, match=r"refused|not available|Cannot assign"):
                socket.create_connection((other, container.port), timeout=5)


@pytest.mark.parametrize("path", PATHS)
def test_a_pointer_is_never_a_path(path: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        check_pointer(path)


@pytest.mark.parametrize("path", PATHS)
async def test_a_member_of_a_zip_is_never_a_path(
    make_client: ClientMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    path: str,
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        # A name of zipfile's own would lose what follows a NUL.
        member = zipfile.ZipInfo("placeholder")
        member.filename, member.compress_type = path, zipfile.ZIP_DEFLATED
        archive.writestr(member, "id\n1\n")

    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(body=packed.getvalue())

    spool = tmp_path / "a" / "b" / "spool"
    spool.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    with http_server(handle) as port:
        client = make_client(attempts=1)
        puller = type(client)("127.0.0.1", port, attempts=1)
        assert await puller.download("0" * 64, use_zip=True) == ("Failed", False)
    assert "its member is not named" in caplog.text
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == []


@pytest.mark.parametrize("name", PATHS)
def test_a_name_never_leaves_the_store(tmp_path: Path, sandbox_container: SandboxContainer, name: str) -> None:
    """Whatever a dataset is called: either it is refused, or its file is in the store."""
    base = tmp_path / "a" / "b" / "store"
    days = dg.DailyPartitionsDefinition("2026-01-01")
    sandbox_container.add_version("harmless", days.time_window_for_partition_key("2026-01-01").start, "id\n1\n")
    try:
        dataset = FoundryDataset(name, partitions_def=days)
        (asset,) = build_foundry_assets([dataset])
    except ValueError:
        return
    try:
        stored = _store(base, asset.key, "2026-01-01")
    except OSError:  # a part of the name is longer than a file's name can be
        assert len(name) > 255
        return
    assert stored.is_relative_to(base)


@pytest.mark.parametrize("part", [".", "..", "/no-such-directory-of-the-tests", "a/b", "a/../../../x", "x\0y"])
def test_a_part_of_an_asset_key_or_a_partition_key_never_leaves_the_store(tmp_path: Path, part: str) -> None:
    base = tmp_path / "a" / "b" / "store"
    for key, partition in [
        (dg.AssetKey(["foundry", part]), "2026-01-01"),
        (dg.AssetKey([part, "orders"]), "2026-01-01"),
        (dg.AssetKey(["foundry", "orders"]), part),
    ]:
        try:
            stored = _store(base, key, partition)
        except ValueError:
            continue
        assert stored.is_relative_to(base)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(base)]
    assert outside == []


def _store(base: Path, key: dg.AssetKey, partition: str) -> Path:
    manager = FoundryParquetIOManager(base_dir=str(base))
    with manager.process_config_and_initialize_cm() as ready:
        metadata: dict[str, Any] = ready.store_partition(key, partition, pl.LazyFrame({"id": [1]}))
    return Path(os.path.normpath(metadata["path"].value))


def test_no_thread_of_a_server_is_left() -> None:
    assert [thread.name for thread in threading.enumerate() if thread.name == "fdtcc-sandbox"] == []
