from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import aiohttp
import pytest

import fdtcc_dagster.sandbox
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.sandbox.wire import CSV, NOON, body, dial, eventually, fetch, pointer, receive_all

PAST = {"from_dt": "2020-01-01", "to_dt": "2020-01-02"}


async def test_taken_port_is_an_error_of_the_caller_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}.*another port"):
            SandboxContainer(port=port).start()


def test_two_containers_run_side_by_side() -> None:
    with SandboxContainer() as one, SandboxContainer() as two:
        assert one.port != two.port
        assert one.url == f"http://127.0.0.1:{one.port}"


async def test_clock_dates_the_versions_of_live_pulls() -> None:
    now = NOON
    with SandboxContainer(clock=lambda: now) as container:
        container.set_live("people", CSV)
        await pointer(container, "people", **PAST)
        now = (NOON + timedelta(days=1)).astimezone(timezone(timedelta(hours=5)))
        await pointer(container, "people", **PAST)
        assert [pulled_at for pulled_at, _ in container.versions("people")] == [NOON, NOON + timedelta(days=1)]


async def test_machine_clock_is_the_default() -> None:
    with SandboxContainer() as container:
        container.set_live("people", CSV)
        await pointer(container, "people", **PAST)
        ((pulled_at, _),) = container.versions("people")
        assert abs(datetime.now(timezone.utc) - pulled_at) < timedelta(seconds=30)


async def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads = threading.active_count()
    with SandboxContainer() as container:
        container.set_live("people", CSV)
        await fetch(container, await pointer(container, "people"), "zip")
        assert os.listdir(tmp_path)
    assert os.listdir(tmp_path) == []
    assert threading.active_count() == threads
    with pytest.raises(RuntimeError, match="make a new one"):
        container.start()


async def test_restart_keeps_the_port_and_the_data() -> None:
    with SandboxContainer() as container:
        container.set_live("people", CSV)
        sha256 = await pointer(container, "people")
        port = container.port
        container.stop()
        container.stop()
        with pytest.raises(OSError, match="Connect"):
            await pointer(container, "people")
        container.start()
        assert container.port == port
        assert await fetch(container, sha256) == (200, CSV)
        with pytest.raises(RuntimeError, match="already serving"):
            container.start()


async def test_stopping_cuts_downloads_off() -> None:
    with SandboxContainer() as container:
        sha256 = container.add_version("people", NOON, b"id\n" + b"1\n" * 100_000)
        container.inject("people", faults.ThrottledBody(1000))
        download = asyncio.create_task(fetch(container, sha256))
        await eventually(lambda: container.downloads == {sha256: 1})
        await asyncio.to_thread(container.stop)
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(download, 5)


async def test_data_changes_from_other_threads_while_serving(container: SandboxContainer) -> None:
    def add(day: int) -> None:
        container.add_version(f"numbers{day % 3}", NOON.replace(day=day), f"id\n{day}\n")

    container.set_live("people", CSV)
    pulls = [pointer(container, "people") for _ in range(5)]
    await asyncio.gather(*pulls, *(asyncio.to_thread(add, day) for day in range(1, 31)))
    assert [len(container.versions(f"numbers{n}")) for n in range(3)] == [10, 10, 10]


async def test_requests_and_sockets_are_observed(container: SandboxContainer) -> None:
    container.set_live("people", CSV)
    assert (container.requests, container.open_sockets, container.max_conversations) == ([], 0, {})
    async with dial(container) as socket:
        assert container.open_sockets == 1
        await socket.send(body("people"))
        await receive_all(socket)
        assert container.requests == [{"names": ["people"], "from_dt": "2026-01-01", "to_dt": "2026-02-01"}]
        assert container.max_conversations == {"people": 1}
    await eventually(lambda: container.open_sockets == 0)


def test_public_names_are_sorted_and_exist() -> None:
    for module in (fdtcc_dagster.sandbox, faults):
        assert len(set(module.__all__)) == len(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)
    defined = {name for name, thing in vars(faults).items() if getattr(thing, "__module__", None) == faults.__name__}
    assert defined <= set(faults.__all__)


def test_sandbox_imports_neither_dagster_nor_the_client_nor_pytest() -> None:
    code = (
        "import sys, fdtcc_dagster; before = set(sys.modules); import fdtcc_dagster.sandbox; "
        "new = set(sys.modules) - before; "
        "print([m for m in new if m.split('.')[0] in ('dagster', 'pandas', 'pytest') or 'fdtcc_dagster.client' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
