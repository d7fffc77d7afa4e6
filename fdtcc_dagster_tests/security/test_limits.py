"""A malicious server causes an error, and not a full disk, full memory, or an endless run."""

from __future__ import annotations

import asyncio
import errno
import shutil
import struct
import time
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from fdtcc_dagster.client.download import Transport, download
from fdtcc_dagster.client.settings import ClientSettings
from fdtcc_dagster.client.spool_file import SpoolFile
from fdtcc_dagster.client.websocket import connected
from fdtcc_dagster.errors import (
    DatasetRetrievalError,
    IdleTimeoutError,
    ServiceUnavailableError,
)
from fdtcc_dagster_tests.security.serving import http_server, tcp_server

POINTER = "0" * 64
Body = Callable[[], AsyncIterator[bytes]]


async def attempt(port: int, directory: Path, limits: ClientSettings, transport: Transport = "csv") -> None:
    file = SpoolFile(directory, POINTER)
    try:
        await download(replace(limits, port=port), file, transport=transport)
    finally:
        file.close()


async def get(body: Body, directory: Path, limits: ClientSettings, transport: Transport = "csv") -> None:
    """Download an endless body; no file may be left."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in body():
            await response.write(chunk)
        return response

    with http_server(handle) as port:
        try:
            await attempt(port, directory, limits, transport)
        finally:
            assert list(directory.iterdir()) == []


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"1\n" * (1 << 17)


async def bomb() -> AsyncIterator[bytes]:
    """A ZIP whose member inflates for ever, a thousandfold."""
    name = f"{POINTER}.csv".encode()
    yield struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 8, 8, 0, 0, 0, 0, 0, len(name), 0) + name
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    while True:
        yield deflater.compress(b"0" * (1 << 24)) + deflater.flush(zlib.Z_SYNC_FLUSH)


async def empty_blocks() -> AsyncIterator[bytes]:
    """A ZIP whose member goes on for ever, and has no byte in it."""
    name = f"{POINTER}.csv".encode()
    yield struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 8, 8, 0, 0, 0, 0, 0, len(name), 0) + name
    while True:
        yield b"\x00\x00\x00\xff\xff" * (1 << 15)


async def trickle() -> AsyncIterator[bytes]:
    while True:
        yield b"1\n"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("body", "transport"), [(endless, "csv"), (bomb, "zip"), (empty_blocks, "zip")])
async def test_a_body_without_an_end_stops_at_the_limit(tmp_path: Path, body: Body, transport: Transport) -> None:
    with pytest.raises(DatasetRetrievalError, match="more than 40000000 bytes; if that is right, raise max_bytes"):
        await get(body, tmp_path, ClientSettings("127.0.0.1", max_bytes=40_000_000), transport)


@pytest.mark.parametrize(("body", "transport"), [(endless, "csv"), (bomb, "zip")])
async def test_a_body_without_an_end_leaves_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: Body, transport: Transport
) -> None:
    # Of a disk of 1 GB, of which a fifth is free: the test must not fill a real one.
    def disk_usage(_: Path) -> SimpleNamespace:
        written = sum(file.stat().st_size for file in tmp_path.iterdir())
        return SimpleNamespace(total=1_000_000_000, free=200_000_000 - written)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    with pytest.raises(OSError, match=r"bytes left, .*make room, or give another spool directory") as caught:
        await get(body, tmp_path, ClientSettings("127.0.0.1"), transport)
    assert caught.value.errno == errno.ENOSPC


async def test_a_body_that_trickles_ends_at_the_time_limit(tmp_path: Path) -> None:
    with pytest.raises(IdleTimeoutError, match=r"did not end within 1 s, after .* bytes; .*raise transfer_timeout"):
        await get(trickle, tmp_path, ClientSettings("127.0.0.1", idle_timeout=5.0, transfer_timeout=1.0))


async def test_a_server_that_accepts_and_says_nothing_is_left(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    with tcp_server(silent) as port:
        limits = ClientSettings("127.0.0.1", open_timeout=0.5, idle_timeout=0.5)
        with pytest.raises(IdleTimeoutError, match=r"no bytes of the snapshot for 0.5 s"):
            await attempt(port, tmp_path, limits)
        with pytest.raises(ServiceUnavailableError, match=r"did not accept the connection within 0.5 s"):
            async with connected(replace(limits, port=port)):
                pass


async def test_a_header_without_an_end_is_refused(tmp_path: Path) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            writer.write(b"x" * (1 << 16))
            await writer.drain()

    started = time.monotonic()
    with tcp_server(shout) as port:
        with pytest.raises(ServiceUnavailableError, match="one of its headers has more than 8 KiB") as caught:
            await attempt(port, tmp_path, ClientSettings("127.0.0.1"))
        assert caught.value.permanent
        # websockets stops reading at once, and waits for the server to notice.
        with pytest.raises(ServiceUnavailableError, match=r"cannot be (reached|read)|did not accept"):
            async with connected(ClientSettings("127.0.0.1", port, open_timeout=1.0)):
                pass
    # Not by one of the time limits, of which the shortest is a minute.
    assert time.monotonic() - started < 50
