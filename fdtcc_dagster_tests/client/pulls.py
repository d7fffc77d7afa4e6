"""Pulls of one small dataset, as most of the client's tests make them."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.snapshot import Snapshot
from fdtcc_dagster.errors import (
    FdtccError,
)
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.window import Window

CSV = "id,name\n1,one\n2,two\n3,three\n"
SHA256 = hashlib.sha256(CSV.encode()).hexdigest()


async def pull(
    client: FoundryDevToolsContainerClient, window: Window, tmp_path: Path, name: str = "orders", **arguments: object
) -> Snapshot:
    return await client.pull(name, window.from_dt, window.to_dt, directory=tmp_path, **arguments)  # type: ignore[arg-type]  # passed on


async def failure(
    client: FoundryDevToolsContainerClient, window: Window, tmp_path: Path, name: str = "orders", **arguments: object
) -> FdtccError:
    """The error of a pull that must fail, after which nothing may be left behind."""
    with pytest.raises(FdtccError) as caught:
        await pull(client, window, tmp_path, name, **arguments)
    assert list(tmp_path.iterdir()) == []
    assert repr(name) in str(caught.value)
    assert str(window) in str(caught.value)
    return caught.value


async def closed(container: SandboxContainer) -> bool:
    """Whether the client's sockets close soon."""
    for _ in range(100):
        if container.open_sockets == 0:
            return True
        await asyncio.sleep(0.02)
    return False
