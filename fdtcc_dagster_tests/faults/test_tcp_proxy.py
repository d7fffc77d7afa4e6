"""The proxy does what the matrix takes it to do."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

import pytest

from fdtcc_dagster.sandbox import faults
from fdtcc_dagster_tests.faults.scene import CSV, NAME, SHA256, Scene
from fdtcc_dagster_tests.tcp_proxy import NetworkFault


async def body(place: Scene) -> bytes:
    """The raw body of a download, as far as it comes."""
    reader, writer = await asyncio.open_connection(place.proxy.host, place.proxy.port)
    try:
        writer.write(f"GET /fdtc-api/dataset/download/csv/{SHA256} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")[2]
    finally:
        writer.close()


@pytest.fixture
def place(place: Scene) -> Scene:
    place.container.add_version(NAME, datetime.now(timezone.utc), CSV)
    # Without a length and without chunks, the body is all that comes after the head.
    place.inject(faults.TruncatedBody(1.0, close_delimited=True))
    return place


async def test_what_is_not_befallen_passes_unaltered_and_is_counted(place: Scene) -> None:
    assert await body(place) == CSV.encode()
    assert place.proxy.seen == {"download": 1}


async def test_so_many_bytes_pass(place: Scene) -> None:
    place.proxy.inject("download", NetworkFault(1000, "close"), skip=1)
    assert [len(await body(place)) for _ in range(3)] == [len(CSV), 1000, len(CSV)]


async def test_reset(place: Scene) -> None:
    place.proxy.inject("conversation", NetworkFault(0, "reset"), times=None)
    place.proxy.inject("download", NetworkFault(-1, "reset"))
    with pytest.raises(ConnectionResetError):
        await body(place)


async def test_hold(place: Scene) -> None:
    place.proxy.inject("download", NetworkFault(10, "hold"))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(body(place), 0.3)


async def test_delay_and_rate(place: Scene) -> None:
    place.proxy.inject("download", NetworkFault(20_000, "close", delay=0.2, rate=100_000.0))
    began = asyncio.get_running_loop().time()
    assert len(await body(place)) == 20_000
    assert asyncio.get_running_loop().time() - began >= 0.4
