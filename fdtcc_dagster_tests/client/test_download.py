"""What is told of a download, how it is received, and how a ZIP is inflated while it arrives."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import socket
import struct
import tracemalloc
import zipfile
import zlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.callbacks import PullObserver
from fdtcc_dagster.client.download import _RECEIVED_BYTES, DamagedError, Inflater, _receive_more
from fdtcc_dagster.client.local_evidence import LocalEvidence
from fdtcc_dagster.client.snapshot import Announcement, ArrivingSnapshot
from fdtcc_dagster.window import Window

NAME = "a" * 64 + ".csv"
CSV = b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(3_000))


async def test_progress_tells_the_total_where_the_server_does(today: Window, tmp_path: Path) -> None:
    body = b"id\n" + b"1\n" * 50

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[:53])
        await asyncio.sleep(1.2)
        await response.write(body[53:])
        return response

    application = web.Application()
    application.router.add_get("/fdtc-api/dataset/download/csv/{sha256}", answer)
    told: list[tuple[int, int | None]] = []
    async with TestServer(application, host="127.0.0.1") as server:
        client = FoundryDevToolsContainerClient("127.0.0.1", server.port or 0, attempts=1)
        pointer = hashlib.sha256(body).hexdigest()
        now, evidence = datetime.now(timezone.utc), LocalEvidence("127.0.0.1:1", "orders")
        announcement = Announcement("orders", today, pointer, None, "cached", now, now, 0.0, evidence, True)
        await client.fetch(
            ArrivingSnapshot.of(announcement, tmp_path),
            observer=PullObserver(on_progress=lambda size, total: told.append((size, total))),
        )
    assert told[-1] == (len(body), len(body))


async def test_asyncios_transport_takes_as_much_at_once_as_it_is_told() -> None:
    taken: list[int] = []
    ended = asyncio.get_running_loop().create_future()

    class Receiver(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            _receive_more(transport)

        def data_received(self, data: bytes) -> None:
            taken.append(len(data))

        def connection_lost(self, exc: Exception | None) -> None:
            ended.set_result(None)

    ours, theirs = socket.socketpair()
    with theirs:
        size = 2 * _RECEIVED_BYTES
        for end, option in ((theirs, socket.SO_SNDBUF), (ours, socket.SO_RCVBUF)):
            end.setsockopt(socket.SOL_SOCKET, option, 4 * size)
        # All of it is there before any of it is taken, as far as the system's buffers are large enough.
        theirs.setblocking(False)
        sent = theirs.send(bytes(size))
        theirs.shutdown(socket.SHUT_WR)
        await asyncio.get_running_loop().create_connection(Receiver, sock=ours)
        await ended
    assert sum(taken) == sent
    assert max(taken) == min(sent, _RECEIVED_BYTES)


def archive(
    content: bytes = CSV, name: str = NAME, method: int = zipfile.ZIP_DEFLATED, streamed: bool = False
) -> bytes:
    class Unseekable(io.RawIOBase):
        def __init__(self, target: io.BytesIO) -> None:
            self.target = target

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            return self.target.write(data)

    buffer = io.BytesIO()
    with zipfile.ZipFile(Unseekable(buffer) if streamed else buffer, "w", method) as file:
        file.writestr(name, content)
    return buffer.getvalue()


def inflated(data: bytes, size: int = 1 << 16, name: str = NAME) -> list[bytes]:
    inflater = Inflater(name)
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    pieces = [piece for chunk in chunks for piece in inflater.feed(chunk)]
    inflater.finish()
    return pieces


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("size", [1, 29, 30, 31, 97, 1_000, 1 << 20])
def test_member_is_inflated_however_it_arrives(size: int, streamed: bool) -> None:
    """With sizes in the header, or behind the member: docs/protocol.md#the-zip."""
    assert b"".join(inflated(archive(streamed=streamed), size)) == CSV


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3_000), st.integers(1, 700))
def test_any_content_in_any_chunks(content: bytes, size: int) -> None:
    assert b"".join(inflated(archive(content), size)) == content


def test_extra_field_zip64_header_and_trailing_garbage_do_not_matter() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file, file.open(NAME, "w", force_zip64=True) as member:
        member.write(CSV)
    data = buffer.getvalue() + os.urandom(5_000)
    assert struct.unpack_from("<H", data, 28)[0] > 0
    for size in (1, 50, 1 << 20):
        assert b"".join(inflated(data, size)) == CSV


def test_archive_may_end_with_its_member() -> None:
    """The output of the last bytes exceeds one chunk of output, and nothing follows that would push it out."""
    for length in range((4 << 20) - 300, (4 << 20) + 8_000, 611):
        compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
        body = compressor.compress(bytes(length)) + compressor.flush()
        header = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8, 0, 0, 0, 0, 0, len(NAME), 0)
        assert sum(map(len, inflated(header + NAME.encode() + body))) == length


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_truncated_member_is_an_error(kept: float) -> None:
    data = archive()
    with pytest.raises(DamagedError, match="ends inside"):
        inflated(data[: int(kept * len(data))])


@pytest.mark.parametrize("kept", [0, 1, 29, 30, 60])
def test_truncated_header_is_an_error(kept: int) -> None:
    with pytest.raises(DamagedError, match="ends inside"):
        inflated(archive()[:kept], 7)


def test_corrupt_member_is_an_error() -> None:
    data = bytearray(archive())
    data[110:114] = b"\xff\xff\xff\xff"
    with pytest.raises(DamagedError):
        inflated(bytes(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive(name="b" * 64 + ".csv"), f"not named '{NAME}'"),
        (archive(name="../" + NAME), "named"),
        (archive(method=zipfile.ZIP_STORED), "not deflated"),
        (archive(method=zipfile.ZIP_BZIP2), "not deflated"),
        (b"a,b\n" * 20, "does not begin with a member"),
        (b'{"detail": "Not Found, and long enough for a header"}', "does not begin with a member"),
        (archive()[:6] + b"\x01\x00" + archive()[8:], "not deflated"),
        (b"PK\x05\x06" + bytes(40), "does not begin with a member"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_another_kind_of_archive_is_refused(data: bytes, message: str, size: int) -> None:
    with pytest.raises(ValueError, match=message):
        inflated(data, size)


def test_bomb_comes_in_bounded_pieces() -> None:
    data = archive(bytes(200 << 20))

    inflater = Inflater(NAME)
    tracemalloc.start()
    try:
        total = 0
        for chunk in inflater.feed(data):
            assert len(chunk) <= 4 << 20
            total += len(chunk)
        assert total == 200 << 20
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
