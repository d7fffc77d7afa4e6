"""The container's protocol spoken by hand, so that no client of this package can hide a mistake of the sandbox."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect

from fdtcc_dagster.sandbox import SandboxContainer

Frame = dict[str, Any]
CSV = b"id,name\n1,Ada\n2,Grace\n3,Edsger\n"
NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)


def dial(container: SandboxContainer, **options: Any) -> connect:
    options = {"ping_interval": None, "max_size": 2**25, **options}
    return connect(f"ws://{container.host}:{container.port}/fdtc-api/dataset/get", **options)


def body(*names: str, from_dt: str | None = "2026-01-01", to_dt: str | None = "2026-02-01") -> str:
    return json.dumps({"names": names, "from_dt": from_dt, "to_dt": to_dt})


async def receive(socket: ClientConnection) -> Frame:
    frame = json.loads(await asyncio.wait_for(socket.recv(), 30))
    assert isinstance(frame, dict)
    return frame


async def receive_all(socket: ClientConnection) -> list[Frame]:
    """All frames up to and with the first terminal one."""
    frames = [await receive(socket)]
    while frames[-1]["type"] not in ("error", "final"):
        frames.append(await receive(socket))
    return frames


async def is_silent(socket: ClientConnection, seconds: float = 0.15) -> bool:
    """Whether the socket stays open and nothing comes."""
    try:
        await asyncio.wait_for(socket.recv(), seconds)
    except asyncio.TimeoutError:
        return True
    return False


async def talk(container: SandboxContainer, *names: str, **window: str | None) -> list[Frame]:
    async with dial(container) as socket:
        await socket.send(body(*names, **window))
        return await receive_all(socket)


async def pointer(container: SandboxContainer, name: str, **window: str | None) -> str:
    answer = (await talk(container, name, **window))[-1]["datasets"]
    assert isinstance(answer, str)
    return answer


async def fetch(container: SandboxContainer, sha256: str, kind: str = "csv") -> tuple[int, bytes]:
    url = f"{container.url}/fdtc-api/dataset/download/{kind}/{sha256}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.read()


async def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


def messages(frames: list[Frame]) -> list[tuple[str, bool, str]]:
    return [(frame["type"], frame["success"], frame["message"]) for frame in frames]
